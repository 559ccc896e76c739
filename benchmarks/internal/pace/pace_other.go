//go:build !linux

package pace

import "time"

// Pacer is time.Sleep.
type Pacer struct{}

// New makes a Pacer.
func New() *Pacer { return &Pacer{} }

// Sleep sleeps for d.
func (*Pacer) Sleep(d time.Duration) { time.Sleep(d) }

// Close does nothing.
func (*Pacer) Close() {}
