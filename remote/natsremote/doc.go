// Package natsremote carries the jobs of package remote over NATS. NATS provides
// discovery, addressing, permissions, encryption and reconnects.
//
// A submitting process adds the client to its router:
//
//	nc, err := nats.Connect(url, natsremote.Options()...)
//	client, err := natsremote.NewClient(nc, natsremote.ClientConfig{})
//	router, err := helix.New(helix.RouterConfig{Strategies: []helix.Strategy{client}})
//
// A worker registers the same kinds, each with a Codec, and serves them:
//
//	err := natsremote.Serve(ctx, nc, router, natsremote.WorkerConfig{})
//
// # Subjects
//
// With the namespace ns, a worker w, a kind k and a client c:
//
//	ns.w.w.k     jobs
//	ns.p.w       probes and cancellations
//	ns.load.k.w  a worker's load, once a second
//	ns.hello     a new client asks the workers for their loads
//	ns.c.c.*     answers
//
// So a client may be permitted to publish ns.w.>, ns.p.* and ns.hello and to subscribe to
// ns.load.> and ns.c.<its id>.*; a worker to subscribe to ns.w.<its id>.*, ns.p.<its id> and
// ns.hello and to publish ns.load.*.<its id> and ns.c.>. Then no other client of the
// server can read inputs or outputs. A worker answers only below ns.c, and a client accepts
// a worker's load only on that worker's subject.
package natsremote
