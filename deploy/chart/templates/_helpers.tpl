{{- /* A release upgraded with --reuse-values has no value that its chart didn't have: what is newer than the first
chart may be missing, and is then as values.yaml has it. */}}

{{- define "asset-token-operator.name" -}}
{{- if .Values.fullnameOverride }}{{ .Values.fullnameOverride }}
{{- else if contains .Chart.Name .Release.Name }}{{ .Release.Name | trunc 40 | trimSuffix "-" }}
{{- else }}{{ printf "%s-%s" (.Release.Name | trunc 19 | trimSuffix "-") .Chart.Name }}
{{- end }}
{{- end }}

{{- define "asset-token-operator.labels" -}}
{{- $own := dict "app.kubernetes.io/version" .Chart.AppVersion "app.kubernetes.io/managed-by" .Release.Service }}
{{- $_ := set $own "helm.sh/chart" (printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_") }}
{{- merge (include "asset-token-operator.selector" . | fromYaml) $own (.Values.commonLabels | default dict) | toYaml }}
{{- end }}

{{- define "asset-token-operator.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end }}

{{- define "asset-token-operator.operatorSelector" -}}
{{ include "asset-token-operator.selector" . }}
app.kubernetes.io/component: operator
{{- end }}

{{- define "asset-token-operator.image" -}}
{{- with .Values.image }}
{{- if not .repository }}
{{- fail "image.repository is not set, and there is no published image: build it, push it to where your cluster pulls from, and name that place, as with --set image.repository=registry.example.com/asset-token-operator" }}
{{- end }}
{{- with .registry }}{{ . }}/{{ end }}{{ .repository }}
{{- if .digest }}@{{ .digest }}{{ else }}:{{ .tag | default $.Chart.AppVersion }}{{ end }}
{{- end }}
{{- end }}

{{- define "asset-token-operator.serviceAccount" -}}
{{- $account := .Values.serviceAccount | default dict }}
{{- if and (not (dig "create" true $account)) (not $account.name) }}
{{- fail "serviceAccount.create is false: name the ServiceAccount that is there already in serviceAccount.name" }}
{{- end }}
{{- $account.name | default (include "asset-token-operator.name" .) }}
{{- end }}

{{- define "asset-token-operator.subject" -}}
- kind: ServiceAccount
  name: {{ include "asset-token-operator.serviceAccount" . | quote }}
  namespace: {{ .Release.Namespace | quote }}
{{- end }}

{{- /* Empty where there is no election. */}}
{{- define "asset-token-operator.lease" -}}
{{- $election := .Values.leaderElection | default dict }}
{{- if dig "enabled" true $election }}{{ $election.leaseName | default (include "asset-token-operator.name" .) }}
{{- else if gt (int .Values.replicas) 1 }}
{{- fail "leaderElection.enabled is false: then each replica would work, so set replicas to 1" }}
{{- end }}
{{- end }}

{{- define "asset-token-operator.podSecurity" -}}
{{- $context := .Values.podSecurityContext }}
{{- if kindIs "invalid" $context }}
{{- $context = dict "runAsNonRoot" true "runAsUser" 65532 "runAsGroup" 65532 }}
{{- $_ := set $context "seccompProfile" (dict "type" "RuntimeDefault") }}
{{- end }}
{{- if .Values.openshift }}{{ $context = omit $context "runAsUser" "runAsGroup" "fsGroup" }}{{ end }}
{{- toYaml $context }}
{{- end }}

{{- define "asset-token-operator.containerSecurity" -}}
{{- $context := .Values.securityContext }}
{{- if kindIs "invalid" $context }}
{{- $context = dict "allowPrivilegeEscalation" false "readOnlyRootFilesystem" true }}
{{- $_ := set $context "capabilities" (dict "drop" (list "ALL")) }}
{{- end }}
{{- if .Values.openshift }}{{ $context = omit $context "runAsUser" "runAsGroup" }}{{ end }}
{{- toYaml $context }}
{{- end }}

{{- /* What decides where a Pod of ours runs, how it is started and what it can resolve. */}}
{{- define "asset-token-operator.podPlacement" -}}
{{- with .Values.imagePullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.dnsPolicy }}
dnsPolicy: {{ . | quote }}
{{- end }}
{{- with .Values.dnsConfig }}
dnsConfig: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.hostAliases }}
hostAliases: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
