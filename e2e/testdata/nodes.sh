# Stands in for a machine that reaches the server of the queue, for the lines of FLEET.md on
# nodes: kubectl port-forward has said in the file forward where it is reached instead of
# at ADDRESS. What is set in the kubeconfig is for these lines alone.
until port=$(grep -oPm1 '127.0.0.1:\K\d+' forward 2>/dev/null); do
  kill -0 $!
  sleep 0.1
done
runner() {
  STUDIOML_QUEUE=${STUDIOML_QUEUE/$ADDRESS/127.0.0.1:$port} command runner "$@"
}
cp "$KUBECONFIG" config
export KUBECONFIG=$PWD/config
