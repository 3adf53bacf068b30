package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	cri "k8s.io/cri-client/pkg"
	"k8s.io/klog/v2"
)

// removeSandboxesCommand makes a container runtime let go of every pod. The runtime itself then frees what it had
// set up for them: network namespaces, addresses, mounts, cgroups. The rest is tried even where one pod fails.
func removeSandboxesCommand() *cobra.Command {
	var endpoint string
	command := &cobra.Command{
		Use:           "remove-sandboxes",
		Short:         "Stop and remove every pod sandbox of a container runtime",
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE: func(command *cobra.Command, _ []string) error {
			return removeSandboxes(command.Context(), endpoint)
		},
	}
	command.Flags().StringVar(&endpoint, "endpoint", "", "address of the runtime (unix:///...)")
	return command
}

func removeSandboxes(ctx context.Context, endpoint string) error {
	if ctx == nil {
		ctx = context.Background()
	}
	logger := klog.Background()
	runtime, err := cri.NewRemoteRuntimeService(endpoint, 30*time.Second, nil, &logger)
	if err != nil {
		return fmt.Errorf("connect to %s: %w", endpoint, err)
	}
	sandboxes, err := runtime.ListPodSandbox(ctx, nil)
	if err != nil {
		return fmt.Errorf("list pod sandboxes: %w", err)
	}
	var failures []error
	for _, sandbox := range sandboxes {
		if err := runtime.StopPodSandbox(ctx, sandbox.Id); err != nil {
			failures = append(failures, fmt.Errorf("stop sandbox %s: %w", sandbox.Id, err))
		}
		if err := runtime.RemovePodSandbox(ctx, sandbox.Id); err != nil {
			failures = append(failures, fmt.Errorf("remove sandbox %s: %w", sandbox.Id, err))
		}
	}
	return errors.Join(failures...)
}
