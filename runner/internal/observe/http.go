package observe

import (
	"encoding/json"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/studioml/studio-go-runner/runner/api"
)

// Handler serves /statusz, /livez, /readyz and /metrics.
func Handler(board *Board, metrics *prometheus.Registry) http.Handler {
	mux := http.NewServeMux()
	streams := make(chan struct{}, maxConnections()/2)
	mux.HandleFunc("GET /statusz", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if r.URL.Query().Get("watch") == "true" {
			select {
			case streams <- struct{}{}:
				defer func() { <-streams }()
				stream(w, r, board)
			default:
				http.Error(w, "too many watch this runner already", http.StatusServiceUnavailable)
			}
			return
		}
		encoder := json.NewEncoder(w)
		encoder.SetIndent("", "  ")
		_ = encoder.Encode(board.Latest()) // the client is gone, nobody is left to tell
	})
	// A runner is alive while it can answer. Nothing outside of the process
	// counts: an outage must not restart the fleet (R8).
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte("ok\n"))
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if s := board.Latest(); s.Phase == api.PhaseUnknown {
			http.Error(w, "the state is not known yet: "+s.Reason, http.StatusServiceUnavailable)
			return
		}
		_, _ = w.Write([]byte("ok\n"))
	})
	mux.Handle("GET /metrics", promhttp.HandlerFor(metrics, promhttp.HandlerOpts{Registry: metrics, EnableOpenMetrics: true}))
	return mux
}

// stream sends one status a line until the board is closed, with its last word.
func stream(w http.ResponseWriter, r *http.Request, board *Board) {
	control := http.NewResponseController(w)
	encoder := json.NewEncoder(w)
	for s := range board.Watch(r.Context()) {
		if control.SetWriteDeadline(time.Now().Add(writeLimit)) != nil ||
			encoder.Encode(s) != nil || control.Flush() != nil {
			return
		}
	}
}
