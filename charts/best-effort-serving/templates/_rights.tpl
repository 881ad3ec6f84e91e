{{/*
What the operator may do where services live. Every verb has its reason; e2e/tests/test_chart_rights.py holds the list
to what the operator's code asks for. "list and watch" are for the cache that it compares with; "create and patch" are
server-side apply (create is asked for when the object is not there yet); "delete" is pruning what is no longer wanted.
*/}}
{{- define "bes.operatorRules" -}}
# The resource itself: read only. What users wrote is never changed, there is no finalizer and no annotation of ours.
- apiGroups: [besteffort.dev]
  resources: [besteffortservices]
  verbs: [get, list, watch]
# Its status subresource: patch, when it changed.
- apiGroups: [besteffort.dev]
  resources: [besteffortservices/status]
  verbs: [patch]
# Engines and routers.
- apiGroups: [apps]
  resources: [deployments]
  verbs: [get, list, watch, create, patch, delete]
# The addresses of engines and routers, and the accounts under which routers and trainings run.
- apiGroups: [""]
  resources: [services, serviceaccounts]
  verbs: [get, list, watch, create, patch, delete]
# One router stays while nodes are drained.
- apiGroups: [policy]
  resources: [poddisruptionbudgets]
  verbs: [get, list, watch, create, patch, delete]
# Configuration and policies; get also reads profiles, certificates and imported policies that a service names.
- apiGroups: [""]
  resources: [configmaps]
  verbs: [get, list, watch, create, patch, delete]
# The router's admin token, which the operator makes; get also sees whether a Secret that a service names exists.
- apiGroups: [""]
  resources: [secrets]
  verbs: [get, list, watch, create, patch, delete]
# Training.
- apiGroups: [batch]
  resources: [jobs]
  verbs: [get, list, watch, create, patch, delete]
# The digest that a training pod said at its end; why pods of engines and routers do not start.
- apiGroups: [""]
  resources: [pods]
  verbs: [get, list, watch]
# How many engines and routers are ready.
- apiGroups: [discovery.k8s.io]
  resources: [endpointslices]
  verbs: [get, list, watch]
# What a person would want to know; patch counts one up that is said again.
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create, patch]
# Rights of routers and training pods, in the service's namespace.
- apiGroups: [rbac.authorization.k8s.io]
  resources: [rolebindings]
  verbs: [get, list, watch, create, patch, delete]
# These two roles may be handed on and no other. "bind" instead of "escalate": the operator cannot write a role.
- apiGroups: [rbac.authorization.k8s.io]
  resources: [clusterroles]
  resourceNames: [{{ include "bes.routerRole" . }}, {{ include "bes.trainingRole" . }}]
  verbs: [bind]
{{- end }}

{{/* One role and its binding: call with a dict of root, name, namespace ("" = whole cluster), rules, account. */}}
{{- define "bes.roleAndBinding" -}}
{{- $kind := ternary "ClusterRole" "Role" (eq .namespace "") -}}
apiVersion: rbac.authorization.k8s.io/v1
kind: {{ $kind }}
metadata:
  name: {{ .name }}
  {{- with .namespace }}
  namespace: {{ . }}
  {{- end }}
  labels:
    {{- include "bes.labels" .root | nindent 4 }}
rules:
{{ .rules }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: {{ $kind }}Binding
metadata:
  name: {{ .name }}
  {{- with .namespace }}
  namespace: {{ . }}
  {{- end }}
  labels:
    {{- include "bes.labels" .root | nindent 4 }}
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: {{ $kind }}
  name: {{ .name }}
subjects:
- kind: ServiceAccount
  name: {{ .account }}
  namespace: {{ .root.Release.Namespace }}
{{- end }}

{{/* The same rights in every watched namespace, or in the whole cluster: dict of root, suffix, rules, account. */}}
{{- define "bes.whereServicesLive" -}}
{{- $root := .root -}}
{{- $given := . -}}
{{- range default (list "") $root.Values.watchNamespaces }}
{{- $name := ternary (include "bes.clusterName" $root) (include "bes.fullname" $root) (eq . "") }}
---
{{ include "bes.roleAndBinding" (dict "root" $root "name" (printf "%s%s" $name $given.suffix) "namespace" . "rules" $given.rules "account" $given.account) }}
{{- end }}
{{- end }}
