package remote

// Transport carries frames between a client and its workers. It delivers each at most
// once. All methods must be safe for concurrent use.
type Transport interface {
	// Listen starts to deliver what comes to the receiver. It is called once, first.
	Listen(Receiver) error
	// Send sends a frame, which it must not keep, and does not wait for an answer. An
	// error means that the frame was not sent and never will be. The answer, or that
	// nobody listens there, is delivered under the number of the call; 0: no answer
	// is expected.
	Send(to Address, call uint64, frame []byte) error
	// Close ends it. Nothing is delivered once it has returned.
	Close() error
}

// Address is where a frame goes.
type Address struct {
	Worker string
	Kind   string // of the job; "" for probes and cancels
}

// Receiver is told what comes. Its methods do not block, so that they may be called from
// the goroutine that reads the connection.
type Receiver interface {
	Answer(call uint64, frame []byte) // the frame is the receiver's from now on
	Nobody(call uint64)               // nobody listens where that call went: it was not delivered
	Present(frame []byte)             // what a worker tells everybody
	Disconnected()                    // answers to what was sent before may never come
}
