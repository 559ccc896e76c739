//go:build !linux

package main

import (
	"net"
	"time"
)

// stamped reads from a connection, and keeps when it read the latest data.
type stamped struct {
	net.Conn
	latest time.Time
}

func stamp(conn net.Conn) (*stamped, error) { return &stamped{Conn: conn}, nil }

func (s *stamped) Read(b []byte) (int, error) {
	n, err := s.Conn.Read(b)
	s.latest = time.Now()
	return n, err
}
