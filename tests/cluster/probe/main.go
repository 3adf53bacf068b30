// The program in the pods of the cluster's own test: a server, a webhook, a client, and reading and writing of files.
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"
)

const usage = "usage: probe serve ADDRESS TEXT | webhook ADDRESS CERTIFICATE KEY | get URL | write FILE TEXT | read FILE"

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(arguments []string) error {
	switch {
	case len(arguments) == 3 && arguments[0] == "serve":
		return http.ListenAndServe(arguments[1], http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprintln(w, arguments[2])
		}))
	case len(arguments) == 4 && arguments[0] == "webhook":
		return http.ListenAndServeTLS(arguments[1], arguments[2], arguments[3], http.HandlerFunc(review))
	case len(arguments) == 2 && arguments[0] == "get":
		return get(arguments[1])
	case len(arguments) == 3 && arguments[0] == "write":
		return os.WriteFile(arguments[1], []byte(arguments[2]+"\n"), 0o644)
	case len(arguments) == 2 && arguments[0] == "read":
		content, err := os.ReadFile(arguments[1])
		fmt.Print(string(content))
		return err
	}
	return fmt.Errorf("%s", usage)
}

// get retries for 20 s: rules for a new Service reach the node a little after the Service is made.
func get(url string) error {
	client := http.Client{Timeout: 2 * time.Second}
	deadline := time.Now().Add(20 * time.Second)
	for {
		response, err := client.Get(url)
		if err == nil {
			defer response.Body.Close()
			_, err = io.Copy(os.Stdout, response.Body)
			return err
		}
		if time.Now().After(deadline) {
			return err
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// review is an admission webhook that refuses objects whose name begins with "refused".
func review(w http.ResponseWriter, request *http.Request) {
	var asked struct {
		Request struct {
			UID  string `json:"uid"`
			Name string `json:"name"`
		} `json:"request"`
	}
	if err := json.NewDecoder(request.Body).Decode(&asked); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	response := map[string]any{"uid": asked.Request.UID, "allowed": !strings.HasPrefix(asked.Request.Name, "refused")}
	if response["allowed"] == false {
		response["status"] = map[string]any{"message": "the probe refuses this name"}
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]any{
		"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response,
	})
}
