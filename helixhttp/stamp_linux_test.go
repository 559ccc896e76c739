package helixhttp_test

import (
	"context"
	"net/http/httptest"
	"syscall"
	"testing"
	"time"

	"github.com/helixrouter/helix/helixhttp"
	"github.com/stretchr/testify/require"
)

// The arrival is when the kernel received the data, however late it is read. The kernel
// begins to take stamps a moment after the first socket on the machine has asked for them.
func TestAnArrivalIsTheKernels(t *testing.T) {
	client, server := connect(t)
	raw, err := server.(syscall.Conn).SyscallConn()
	require.NoError(t, err)
	r := httptest.NewRequest("GET", "/", nil)
	r = r.WithContext(helixhttp.ConnContext(context.Background(), server))
	for try := 1; ; try++ {
		sent := time.Now()
		_, err := client.Write([]byte("hello"))
		require.NoError(t, err)
		require.NoError(t, raw.Read(func(fd uintptr) bool { // wait until it is there, and leave it
			_, _, err := syscall.Recvfrom(int(fd), make([]byte, 8), syscall.MSG_PEEK)
			return err != syscall.EAGAIN
		}))
		there := time.Now()
		for time.Since(there) < 5*time.Millisecond { // what the hidden queue does to it
		}
		_, err = server.Read(make([]byte, 8))
		require.NoError(t, err)

		at := helixhttp.Arrived(r)
		between(t, sent, at)
		if at.Sub(there) < time.Millisecond {
			return
		}
		require.Less(t, try, 200, "the time of the read is %v late", at.Sub(there))
	}
}
