package remote

// Transport carries frames between a client and its workers. It delivers each at most
// once. All methods must be safe for concurrent use.
type Transport interface {
	// Listen starts to deliver incoming frames to the receiver. It is called once, first.
	Listen(Receiver) error
	// Send sends a frame, which it must not keep, and does not wait for an answer. An
	// error means that the frame was not sent and never will be. The answer, or the
	// notice that the address has no receiver, is delivered under the number of the
	// call; 0: no answer is expected.
	Send(to Address, call uint64, frame []byte) error
	// Close ends it, also if Listen has failed. Nothing is delivered once it has returned.
	Close() error
}

// Address is the destination of a frame.
type Address struct {
	Worker string
	Kind   string // of the job; "" for probes and cancels
}

// Receiver receives incoming frames and notices. Its methods do not block, so that they may be
// called from the goroutine that reads the connection.
type Receiver interface {
	Answer(call uint64, frame []byte) // the frame is the receiver's from now on
	Nobody(call uint64)               // the call had no receiver: it was not delivered
	Present(frame []byte)             // a worker's presence message
	Disconnected()                    // answers to what was sent before may never come
}
