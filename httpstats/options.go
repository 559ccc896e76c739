package httpstats

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

// Option changes what [New] and [Mount] make.
type Option func(*options)

type options struct {
	name         string
	configWrites bool
	allowedHosts []string
	burst        func(context.Context) error
	streamLimit  int

	// Not for users: tests shorten them.
	step         time.Duration // between points
	flush        time.Duration // between looks at new decisions
	frameTimeout time.Duration // for a client to read a frame of its stream
	bodyTimeout  time.Duration // to read the body of a request
}

func defaultOptions() options {
	return options{
		name:         binaryName(),
		burst:        nil,
		streamLimit:  32,
		step:         time.Second,
		flush:        250 * time.Millisecond,
		frameTimeout: 5 * time.Second,
		bodyTimeout:  10 * time.Second,
	}
}

func (o *options) validate() error {
	if o.streamLimit < 1 || o.streamLimit > maxStreamLimit {
		return fmt.Errorf("httpstats: WithStreamLimit is %d: must be from 1 to %d", o.streamLimit, maxStreamLimit)
	}
	for _, host := range o.allowedHosts {
		if host == "" || strings.ContainsAny(host, "/ \t\r\n") {
			return fmt.Errorf("httpstats: WithAllowedHosts has %q: must be a host name or an address, without scheme and path", host)
		}
	}
	if o.name == "" {
		return errors.New("httpstats: WithName is empty: must be the name of the service")
	}
	return nil
}

const maxStreamLimit = 1 << 16

// WithName sets the service's name, as the page shows it. Defaults to the
// name of the running binary.
func WithName(name string) Option { return func(o *options) { o.name = name } }

// WithConfigWrites lets PATCH api/config change the router's configuration
// through [helix.Router.Update]. There is no authentication: use it only if
// every client that can reach the handler may do that. Requests that a browser sends
// from another origin are refused. Defaults to read-only.
func WithConfigWrites() Option { return func(o *options) { o.configWrites = true } }

// WithAllowedHosts adds host names under which the handler may be addressed
// when the connection comes in on a loopback address. Without it only
// localhost, names below it and loopback addresses are answered there, so that
// a web page cannot reach a developer's machine by pointing its own name to
// 127.0.0.1 (DNS rebinding). A proxy on the same machine that passes on the
// public name needs that name here. "*" allows every name. Ports are ignored.
// Defaults to none.
func WithAllowedHosts(hosts ...string) Option {
	return func(o *options) { o.allowedHosts = append(o.allowedHosts, hosts...) }
}

// WithBurst offers a button "send a burst" on the page, which calls send: POST
// api/burst, refused from other origins. It is meant for demonstrations. send
// gets the request's ctx and is called by one request at a time; its error is
// shown on the page. Defaults to no button.
func WithBurst(send func(context.Context) error) Option {
	return func(o *options) { o.burst = send }
}

// WithStreamLimit sets how many streams may be open at the same time, one for every visible
// page, and at most half of them, rounded up, from one client address (a proxy counts as one
// client). Beyond that a new stream replaces the one that has been open for longest, if that
// is ten seconds or more. Otherwise it gets 503, and the page polls meanwhile. Defaults to
// 32.
func WithStreamLimit(n int) Option { return func(o *options) { o.streamLimit = n } }
