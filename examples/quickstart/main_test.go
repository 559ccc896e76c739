package main

func Example() {
	main()
	// Output:
	// hello
	// hello
	// TYPED
	// true helix: job dropped: already late
}
