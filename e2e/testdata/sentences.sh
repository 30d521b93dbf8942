# What the documents have in sentences and tables alone: documents_test.go types it where
# the lines of runner/deploy/*.md were typed, sentences_test.go wants each line to be in a
# sentence. FLEET.md's queue and namespace are there, and four fake GPUs.
runner queue init --queue postgres://owner@db.example/tasks
export STUDIOML_SPOOL=$TMPDIR/sentences
unset STUDIOML_QUEUE
runner submit --id=two --gpus 2 -- true
runner cancel two
runner submit --id=fails --max-attempts=1 -- sh -c 'echo it fails; exit 3'
KUBECONFIG= runner serve --listen=127.0.0.1:0 --max-idle=10s # it is to find the task before
runner tasks --state=dead
runner logs fails --attempt 1 | grep 'it fails'
runner retry fails
runner purge --older 30d
runner serve --help >help
runner completion bash >completion

export FAKEGPU_STATE=$TMPDIR/cards
fakegpu create "$FAKEGPU_STATE" --if-absent --profile=T4 --count=2
fakegpu create --help >profiles
fakegpu watch "$FAKEGPU_STATE" >changes &
until [ -s changes ]; do
  fakegpu set "$FAKEGPU_STATE" 0 temperature=$((40 + RANDOM % 20))
done
kill $!
fakegpu smi
fakegpu capture >card.yaml
fakegpu create others --profile card.yaml
fakegpu capture --answers >answers
fakegpu install copies

(
  cd studio-go-runner
  kubectl kustomize runner/deploy/job >"$TMPDIR/job.yaml"
)
kubectl get configmap studioml-go-runner --output=yaml >map.yaml
kubectl replace --force --filename=map.yaml
kubectl rollout restart deployment/studioml-go-runner-deployment
kubectl delete job --all --namespace=lab
kubectl apply --filename=job.yaml
kubectl describe persistentvolumeclaim studio-go-runner-spool
kubectl describe pod
kubectl delete namespace lab --wait=false
