{{- define "outrigger.labels" -}}
app.kubernetes.io/name: outrigger
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end -}}

{{- define "outrigger.selector" -}}
app.kubernetes.io/name: outrigger
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: operator
{{- end -}}

{{- define "outrigger.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag }}
{{- end -}}

{{- define "outrigger.claim" -}}
{{ .Values.store.existingClaim | default "outrigger-store" }}
{{- end -}}

{{- /* Cluster-scoped names are fixed: the extensions, and so the operator, exist once in a cluster. */ -}}

{{- /* Whole number (values, section, key, default). A release of an earlier chart that is upgraded with its own values alone
lacks those that are new; 0 is one. */ -}}
{{- define "outrigger.number" -}}
{{- $section := get (index . 0) (index . 1) | default dict -}}
{{- $value := dig (index . 2) nil $section -}}
{{- kindIs "invalid" $value | ternary (index . 3) $value | int64 -}}
{{- end -}}

{{- define "outrigger.secretResultSeconds" -}}
{{ include "outrigger.number" (list .Values "actions" "secretResultSeconds" 3600) }}
{{- end -}}
