# Stands in for what a control plane alone lacks, nodes and the controllers of Jobs, for
# the lines of runner/deploy/*.md: the runners of the shipped Job are processes, with the
# rights, settings and queue that their pods would have. ADDRESSES is where they listen.
addresses=($ADDRESSES)
running=()

kubectl() {
  case "$*" in
  exec\ *) inside "$@" ;;
  "apply -k .") # what the kubelet does with the init container of the fake GPUs
    command kubectl "$@"
    local created=$(command kubectl get daemonset studio-go-runner-fakegpu --output=jsonpath='{.spec.template.spec.initContainers[1].command[*]}')
    created=${created//\/var\/lib\/fakegpu/$TMPDIR\/fakegpu}
    created=${created//\$(FAKEGPU_PROFILE)/H100-80GB}
    created=${created//\$(FAKEGPU_COUNT)/8}
    ${created//\$(NODE_NAME)/$NODE}
    ;;
  "scale deployment studioml"*)
    command kubectl create deployment "$3" --image=original
    command kubectl "$@"
    ;;
  "wait --for=condition=complete job/"*) complete ;;
  *)
    command kubectl "$@" || return
    case "$*" in
    "apply -k $NAMESPACE" | "patch job"*'"suspend":false'*) start ;;
    "patch job"*'"suspend":true'*) stop ;;
    esac
    ;;
  esac
}

# start does what the Job's controller and the kubelet do.
start() {
  command kubectl get configmap studio-go-runner-env --output=go-template='{{range $k, $v := .data}}{{$k}}={{$v}}{{"\n"}}{{end}}' >settings
  for i in "${!addresses[@]}"; do
    local name=studio-go-runner-$i uid
    command kubectl apply -f - <<EOF
apiVersion: v1
kind: Pod
metadata: {name: $name-fghij, labels: {app.kubernetes.io/name: studio-go-runner}}
spec: {nodeName: $NODE, hostname: $name, serviceAccountName: studio-go-runner, containers: [{name: runner, image: example/runner}]}
EOF
    command kubectl patch pod $name-fghij --subresource=status --patch='{"status": {"phase": "Running"}}'
    uid=$(command kubectl get pod $name-fghij --output=jsonpath={.metadata.uid})
    sed "s/token: .*/token: $(command kubectl create token studio-go-runner --bound-object-kind=Pod --bound-object-name=$name-fghij)/" "$KUBECONFIG" >$name.account
    (
      set -a
      . ./settings
      STUDIOML_QUEUE=$(command kubectl get secret studio-go-runner-queue --output=jsonpath='{.data.url}' | base64 --decode)
      KUBECONFIG=$name.account HOSTNAME=$name POD_NAME=$name-fghij POD_UID=$uid POD_NAMESPACE=$NAMESPACE STUDIOML_LISTEN=${addresses[i]} exec runner serve
    ) 2>>$name.log &
    running+=($!)
    until runner status --address="${addresses[i]}" >/dev/null 2>&1; do
      kill -0 "${running[-1]}"
      sleep 0.1
    done
  done
}

# inside runs the words behind -- beside the runner of a pod, or that of the Job's first.
# A long task waits until a drain was seen.
inside() {
  local i=0 said
  while [ "$1" != -- ]; do
    case $1 in *studio-go-runner-1-*) i=1 ;; esac
    shift
  done
  said=$(STUDIOML_ADDRESS=${addresses[i]} "${@:2}") || return
  case $said in *Draining*) touch seen ;; esac
  echo "$said"
}

# complete waits until each runner has ended with 0.
complete() {
  for pid in "${running[@]}"; do wait "$pid" || return; done
  gone
}

# stop ends runners as the kubelet does when a Job is suspended.
stop() {
  kill "${running[@]}"
  for pid in "${running[@]}"; do wait "$pid" || [ $? = 143 ] || return; done
  gone
}

gone() {
  running=()
  command kubectl delete pods --selector=app.kubernetes.io/name=studio-go-runner --force --grace-period=0 2>/dev/null
}

command kubectl apply -f - <<EOF
apiVersion: v1
kind: Node
metadata: {name: $NODE}
EOF
