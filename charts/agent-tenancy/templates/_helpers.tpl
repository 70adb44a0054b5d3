{{/* Name of the chart, and with it of the product. */}}
{{- define "agent-tenancy.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" }}
{{- end }}

{{/* First part of every object's name: `<release>-agent-tenancy`, or the release's name if it says so already. */}}
{{- define "agent-tenancy.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" }}
{{- else if contains (include "agent-tenancy.name" .) .Release.Name }}
{{- .Release.Name | trunc 40 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name (include "agent-tenancy.name" .) | trunc 40 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{/* Name of an object without a namespace: two releases of one name in two namespaces must not meet. */}}
{{- define "agent-tenancy.clusterName" -}}
{{ printf "%s.%s" (include "agent-tenancy.fullname" .) .Release.Namespace }}
{{- end }}

{{/* Labels of every object. */}}
{{- define "agent-tenancy.labels" -}}
app.kubernetes.io/name: {{ include "agent-tenancy.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/part-of: agent-tenancy
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* Labels that select a component's Pods; they never change. Takes a dict with `root` and `component`. */}}
{{- define "agent-tenancy.selector" -}}
app.kubernetes.io/name: {{ include "agent-tenancy.name" .root }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- define "agent-tenancy.operatorName" -}}
{{ include "agent-tenancy.fullname" . }}-operator
{{- end }}

{{- define "agent-tenancy.agentApiName" -}}
{{ include "agent-tenancy.fullname" . }}-agent-api
{{- end }}

{{- define "agent-tenancy.operatorAccount" -}}
{{- .Values.operator.serviceAccount.name | default (ternary (include "agent-tenancy.operatorName" .) "default" .Values.operator.serviceAccount.create) }}
{{- end }}

{{- define "agent-tenancy.agentApiAccount" -}}
{{- .Values.agentApi.serviceAccount.name | default (ternary (include "agent-tenancy.agentApiName" .) "default" .Values.agentApi.serviceAccount.create) }}
{{- end }}

{{/* The agent API's Pods as a label selector in one line, for the operator. */}}
{{- define "agent-tenancy.podSelector" -}}
{{- $labels := include "agent-tenancy.selector" (dict "root" . "component" "agent-api") | fromYaml }}
{{- $terms := list }}
{{- range $key, $value := $labels }}
{{- $terms = append $terms (printf "%s=%s" $key $value) }}
{{- end }}
{{- join "," $terms }}
{{- end }}

{{/* Reference of an image: by digest where one is given. Takes a dict with `root` and `image`. */}}
{{- define "agent-tenancy.image" -}}
{{- if .image.digest -}}
{{ .image.repository }}@{{ .image.digest }}
{{- else -}}
{{ .image.repository }}:{{ .image.tag | default .root.Chart.AppVersion }}
{{- end }}
{{- end }}

{{/* The operator's settings, with `operator.config` laid over them. */}}
{{- define "agent-tenancy.operatorConfig" -}}
{{- $v := .Values -}}
{{- $database := dict
  "name" $v.database.name
  "host" (required "database.host is required: the host of the Postgres database" $v.database.host)
  "port" $v.database.port
  "database" $v.database.database
  "user" $v.database.user
  "passwordFile" "/etc/agent-tenancy/database/password"
  "sslMode" $v.database.sslMode
  "namePrefix" $v.database.namePrefix
  "maxConnections" $v.database.maxConnections
  "tenantsPerCell" $v.database.tenantsPerCell
  "archiveSeconds" $v.database.archiveSeconds
  "driftSeconds" $v.database.driftSeconds
  "loginRotationSeconds" $v.database.loginRotationSeconds -}}
{{- if $v.database.caSecret.name }}
{{- $_ := set $database "sslRootCertFile" "/etc/agent-tenancy/database/ca.crt" }}
{{- end }}
{{- $config := dict
  "clusterId" $v.clusterId
  "previousClusterIds" ($v.previousClusterIds | default list)
  "clusterSilenceSeconds" $v.clusterSilenceSeconds
  "watchNamespaces" ($v.scope.namespaces | default list)
  "registryNamespace" $v.registry.namespace
  "leaderElection" (dict
    "namespace" .Release.Namespace
    "name" (include "agent-tenancy.operatorName" .)
    "leaseSeconds" $v.operator.leaderElection.leaseSeconds
    "renewSeconds" $v.operator.leaderElection.renewSeconds)
  "agentApi" (dict
    "replicaSource" (ternary "Pods" "Leases" $v.agentApi.enabled)
    "namespace" .Release.Namespace
    "podSelector" (include "agent-tenancy.podSelector" .))
  "database" $database
  "migrations" $v.migrations
  "concurrency" $v.operator.concurrency
  "resyncSeconds" $v.operator.resyncSeconds
  "ackTimeoutSeconds" $v.operator.ackTimeoutSeconds
  "httpAddress" "0.0.0.0:8081"
  "log" $v.operator.log -}}
{{- if $v.plan.enabled }}
{{- $_ := set $config "plan" (dict "httpAddress" "0.0.0.0:8082") }}
{{- end }}
{{- toYaml (mergeOverwrite $config (deepCopy $v.operator.config)) }}
{{- end }}

{{/* The agent API's settings, with `agentApi.config` laid over them. */}}
{{- define "agent-tenancy.agentApiConfig" -}}
{{- $v := .Values -}}
{{- $config := dict
  "http" (dict "listen" "0.0.0.0:8080")
  "health" (dict "listen" "0.0.0.0:8081")
  "registry" (dict "namespace" $v.registry.namespace)
  "log" $v.agentApi.log -}}
{{- if $v.database.caSecret.name }}
{{- $_ := set $config "database" (dict "rootCertificates" "/etc/agent-tenancy/database/ca.crt") }}
{{- end }}
{{- toYaml (mergeOverwrite $config (deepCopy $v.agentApi.config)) }}
{{- end }}

{{/* Part of a Pod's spec that says where it runs. Takes a dict with `root`, `component` and `values`. */}}
{{- define "agent-tenancy.scheduling" -}}
{{- with .values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- if .values.topologySpreadConstraints }}
topologySpreadConstraints:
  {{- $selector := dict "labelSelector" (dict "matchLabels" (include "agent-tenancy.selector" . | fromYaml)) }}
  {{- range .values.topologySpreadConstraints }}
  - {{- toYaml (merge (deepCopy .) $selector) | nindent 4 }}
  {{- end }}
{{- end }}
{{- end }}

{{/* Variables that tell a process which Pod it is. */}}
{{- define "agent-tenancy.podEnv" -}}
- name: POD_NAME
  valueFrom:
    fieldRef:
      fieldPath: metadata.name
- name: POD_NAMESPACE
  valueFrom:
    fieldRef:
      fieldPath: metadata.namespace
- name: POD_UID
  valueFrom:
    fieldRef:
      fieldPath: metadata.uid
{{- end }}

{{/* Probes: /livez answers while the process runs, /readyz while it wants requests. */}}
{{- define "agent-tenancy.probes" -}}
startupProbe:
  httpGet:
    path: /livez
    port: health
  periodSeconds: 2
  failureThreshold: 30
livenessProbe:
  httpGet:
    path: /livez
    port: health
  periodSeconds: 10
  timeoutSeconds: 5
readinessProbe:
  httpGet:
    path: /readyz
    port: health
  periodSeconds: 5
  timeoutSeconds: 5
{{- end }}
