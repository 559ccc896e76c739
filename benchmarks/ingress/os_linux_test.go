package main

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// The process of a test is not pinned, so another one is, first to another processor as by its parent.
func TestAllThreadsArePinned(t *testing.T) {
	var may unix.CPUSet
	require.NoError(t, unix.SchedGetaffinity(0, &may))
	if !may.IsSet(0) {
		t.Skip("the first processor is not for this process")
	}
	const child = "HELIX_INGRESS_PINNED"
	if os.Getenv(child) == "" {
		cmd := exec.Command(os.Args[0], "-test.run=^TestAllThreadsArePinned$")
		cmd.Env = append(os.Environ(), child+"=1")
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s", out)
		return
	}
	var reading sync.WaitGroup
	defer reading.Wait()
	for range 4 { // each takes a thread
		r, w, err := os.Pipe()
		require.NoError(t, err)
		fd := r.Fd() // from now on reads block
		require.NotZero(t, fd)
		defer w.Close()
		reading.Go(func() { _, _ = r.Read(make([]byte, 1)) })
	}
	pin(1)
	pin(0)
	threads, err := filepath.Glob("/proc/self/task/*/status")
	require.NoError(t, err)
	require.Greater(t, len(threads), 4)
	for _, thread := range threads {
		status, err := os.ReadFile(thread)
		require.NoError(t, err)
		require.Contains(t, strings.ReplaceAll(string(status), "\t", " "), "Cpus_allowed_list: 0\n", thread)
	}
}

func TestAnswersHaveTheKernelsTime(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	client, err := net.Dial("tcp", l.Addr().String())
	require.NoError(t, err)
	defer client.Close()
	from, err := stamp(client)
	require.NoError(t, err)
	server, err := l.Accept()
	require.NoError(t, err)
	defer server.Close()
	const margin = time.Millisecond // of the wall clock, by which the kernel tells the time
	before := time.Now()
	_, err = server.Write([]byte("answer"))
	require.NoError(t, err)
	written := time.Now()
	for time.Since(written) < 10*margin {
		time.Sleep(margin) // the client is busy
	}
	n, err := from.Read(make([]byte, 100))
	require.NoError(t, err)
	require.Equal(t, 6, n)
	require.WithinRange(t, from.latest, before.Add(-margin), written.Add(margin))
}
