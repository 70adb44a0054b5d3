{{/* Name of the chart. */}}
{{- define "agent-tenancy.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" }}
{{- end }}

{{/* First part of every object's name: `<release>-agent-tenancy`, or the release's name if that contains it. */}}
{{- define "agent-tenancy.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" }}
{{- else if contains (include "agent-tenancy.name" .) .Release.Name }}
{{- .Release.Name | trunc 40 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name (include "agent-tenancy.name" .) | trunc 40 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{/* Name of an object without a namespace: two releases of one name in two namespaces must not share it. */}}
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

{{/* One database in the operator's settings. Takes a dict with `instance`, its values, and `folder`, with its files. */}}
{{- define "agent-tenancy.instance" -}}
{{- $settings := omit .instance "passwordSecret" "caSecret" }}
{{- $_ := set $settings "passwordFile" (printf "%s/password" .folder) }}
{{- if (.instance.caSecret | default dict).name }}
{{- $_ := set $settings "sslRootCertFile" (printf "%s/ca.crt" .folder) }}
{{- end }}
{{- toYaml $settings }}
{{- end }}

{{/* The files of one database, as sources of a projected volume. Takes a dict with `instance`, its values, and `path`, their path in the values. */}}
{{- define "agent-tenancy.instanceFiles" -}}
- secret:
    name: {{ required (printf "%s.passwordSecret.name is required: a Secret with the password of the operator's database login" .path) .instance.passwordSecret.name }}
    items:
      - key: {{ .instance.passwordSecret.key | default "password" }}
        path: password
{{- with .instance.caSecret }}
{{- if .name }}
- secret:
    name: {{ .name }}
    items:
      - key: {{ .key | default "ca.crt" }}
        path: ca.crt
{{- end }}
{{- end }}
{{- end }}

{{/* Fails for a value that was renamed, with its new name. `--reuse-values` also passes the defaults of the earlier chart. */}}
{{- define "agent-tenancy.refuseRenamed" -}}
{{- $renamed := list
  (list "clusterSilenceSeconds" "clusterHeartbeatTimeoutSeconds" .Values)
  (list "plan" "adminApi" .Values)
  (list "networkPolicy.planClients" "networkPolicy.adminApiClients" .Values.networkPolicy)
  (list "operator.config.clusterSilenceSeconds" "operator.config.clusterHeartbeatTimeoutSeconds" .Values.operator.config)
  (list "operator.config.plan" "operator.config.adminApi" .Values.operator.config) }}
{{- $found := list }}
{{- range $renamed }}
{{- if hasKey (index . 2 | default dict) (last (splitList "." (index . 0))) }}
{{- $found = append $found (printf "%s is now %s" (index . 0) (index . 1)) }}
{{- end }}
{{- end }}
{{- if $found }}
{{- fail (printf "values were renamed: %s; with --reuse-values use --reset-then-reuse-values instead" (join ", " $found)) }}
{{- end }}
{{- end }}

{{/* The operator's settings, overridden by `operator.config`. */}}
{{- define "agent-tenancy.operatorConfig" -}}
{{- $v := .Values -}}
{{- include "agent-tenancy.refuseRenamed" . }}
{{- $_ := required "database.host is required: the host of the Postgres database" $v.database.host }}
{{- $database := include "agent-tenancy.instance" (dict "instance" $v.database "folder" "/etc/agent-tenancy/database") | fromYaml }}
{{- $databases := list }}
{{- range $v.databases }}
{{- $folder := printf "/etc/agent-tenancy/databases/%s" .name }}
{{- $settings := include "agent-tenancy.instance" (dict "instance" . "folder" $folder) | fromYaml }}
{{- $user := printf "%s_operator_a" (.namePrefix | default "at") }}
{{- $databases = append $databases (mustMerge $settings (dict "database" "agents" "user" $user)) }}
{{- end }}
{{- $config := dict
  "clusterId" $v.clusterId
  "previousClusterIds" ($v.previousClusterIds | default list)
  "clusterHeartbeatTimeoutSeconds" $v.clusterHeartbeatTimeoutSeconds
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
  "databases" $databases
  "migrations" $v.migrations
  "concurrency" $v.operator.concurrency
  "resyncSeconds" $v.operator.resyncSeconds
  "ackTimeoutSeconds" $v.operator.ackTimeoutSeconds
  "httpAddress" "0.0.0.0:8081"
  "log" $v.operator.log -}}
{{- if ($v.adminApi).enabled }}
{{- $_ := set $config "adminApi" (dict "httpAddress" "0.0.0.0:8082") }}
{{- end }}
{{- toYaml (mergeOverwrite $config (deepCopy $v.operator.config)) }}
{{- end }}

{{/* The agent API's settings, overridden by `agentApi.config`. */}}
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

{{/* Scheduling part of a Pod's spec. Takes a dict with `root`, `component` and `values`. */}}
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

{{/* Environment variables with the Pod's identity. */}}
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

{{/* Probes: /livez succeeds while the process runs, /readyz while it accepts requests. */}}
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
