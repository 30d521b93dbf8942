package kube

import (
	"cmp"
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"time"

	"k8s.io/client-go/rest"
)

// How soon silence is noticed. A connection that is cut without a word is given
// up pingAfter + pingLimit after the last byte, and a new one fails dialLimit, or
// that and tlsLimit, later: together within the minute of R4. A dial is short because a
// lost SYN is sent again after 1, 2 and 4 s: a longer one sleeps through the repair. The
// others are long because an API server to which a whole fleet comes back may take its
// time, and who gives up and comes again makes that longer.
const (
	dialLimit   = 4 * time.Second
	tlsLimit    = 20 * time.Second
	headerLimit = 20 * time.Second
	pingAfter   = 15 * time.Second
	pingLimit   = 10 * time.Second
)

// newTransport differs from client-go's in that it pings, dials in seconds,
// notes when it last heard a byte, and reads certificates and the CA again for
// each connection, since they are rotated in place.
func (c *Client) newTransport(config *rest.Config) (http.RoundTripper, error) {
	settings, err := rest.TLSConfigFor(config) // what is wrong with it is wrong at the start
	if err != nil {
		return nil, err
	}
	keepAlive := net.KeepAliveConfig{Enable: true, Idle: pingAfter, Interval: pingLimit / 2, Count: 2}
	dialer := &net.Dialer{Timeout: dialLimit, KeepAliveConfig: keepAlive} // TCP pings for HTTP/1
	connect := dialer.DialContext
	if config.Dial != nil {
		connect = config.Dial
	}
	dial := func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := connect(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return &listening{conn, c}, nil
	}
	dialTLS := func(ctx context.Context, network, address string) (net.Conn, error) {
		settings, err := rest.TLSConfigFor(config)
		if err != nil {
			return nil, err
		}
		host, _, err := net.SplitHostPort(address)
		if err != nil {
			return nil, err
		}
		settings = cmp.Or(settings, new(tls.Config))
		settings.ServerName = cmp.Or(settings.ServerName, host)
		if settings.NextProtos == nil {
			settings.NextProtos = []string{"h2", "http/1.1"}
		}
		conn, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		ctx, cancel := context.WithTimeout(ctx, tlsLimit)
		defer cancel()
		secure := tls.Client(conn, settings)
		if err := secure.HandshakeContext(ctx); err != nil {
			_ = conn.Close()
			return nil, err
		}
		return secure, nil
	}
	proxy := http.ProxyFromEnvironment
	if config.Proxy != nil {
		proxy = config.Proxy
	}
	return rest.HTTPWrappersForConfig(config, &http.Transport{
		Proxy: proxy, DialContext: dial, DialTLSContext: dialTLS, TLSClientConfig: settings, // the last is for proxies
		TLSHandshakeTimeout: tlsLimit, ResponseHeaderTimeout: headerLimit, IdleConnTimeout: time.Minute,
		ForceAttemptHTTP2: true, DisableCompression: config.DisableCompression,
		HTTP2: &http.HTTP2Config{SendPingTimeout: pingAfter, PingTimeout: pingLimit},
	})
}

// listening notes when something was read.
type listening struct {
	net.Conn
	client *Client
}

func (l *listening) Read(b []byte) (int, error) {
	n, err := l.Conn.Read(b)
	if n > 0 {
		l.client.heard.Store(time.Now().UnixNano())
	}
	return n, err
}
