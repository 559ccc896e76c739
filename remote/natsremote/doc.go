// Package natsremote carries the jobs of package remote over NATS. Discovery, addressing,
// permissions, encryption and reconnecting are NATS's.
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
//	ns.load.k.w  what a worker tells of itself, once a second
//	ns.hello     a client has come: tell of yourselves
//	ns.c.c.*     answers
//
// So a client may be permitted to publish ns.w.>, ns.p.* and ns.hello and to subscribe to
// ns.load.> and ns.c.<its id>.*; a worker to subscribe to ns.w.<its id>.*, ns.p.<its id> and
// ns.hello and to publish ns.load.*.<its id> and ns.c.>. No one else can read inputs or
// outputs then. A worker answers nowhere but below ns.c, and a client believes what a worker
// says of itself only on the worker's own subject.
package natsremote
