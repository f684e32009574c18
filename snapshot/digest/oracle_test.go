package digest

import (
	"bufio"
	"context"
	"net"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
)

// oracle starts a redis-server with dir as its directory on a port that the kernel chooses and returns a client of it.
// Both end with the test. It skips the test where no redis-server is installed.
func oracle(t testing.TB, dir string, args ...string) *redis.Client {
	t.Helper()
	path, err := exec.LookPath("redis-server")
	if err != nil {
		t.Skip("redis-server is not installed")
	}
	// Another process may take the port between Close and the server's bind; the server ends then, and we ask again.
	for range 5 {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		addr := ln.Addr().(*net.TCPAddr)
		require.NoError(t, ln.Close())
		cmd := exec.Command(path, append([]string{"--port", strconv.Itoa(addr.Port), "--bind", "127.0.0.1", "--dir", dir,
			"--save", "", "--enable-debug-command", "yes", "--sanitize-dump-payload", "yes", "--logfile", ""}, args...)...)
		out, err := cmd.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, cmd.Start())
		var log strings.Builder
		lines := bufio.NewScanner(out)
		ready := false
		for !ready && lines.Scan() {
			log.WriteString(lines.Text() + "\n")
			ready = strings.Contains(lines.Text(), "Ready to accept connections")
		}
		drained := make(chan struct{})
		go func() {
			defer close(drained)
			for lines.Scan() { // a full pipe would block the server
			}
		}()
		stop := func() {
			_ = cmd.Process.Kill() // it may have ended by itself
			<-drained
			_ = cmd.Wait() // reports the kill
		}
		if !ready {
			stop()
			if strings.Contains(log.String(), "Address already in use") {
				continue
			}
			require.Fail(t, "redis-server did not start", log.String())
		}
		c := redis.NewClient(&redis.Options{Addr: addr.String(), Protocol: 2, DisableIdentity: true, ReadTimeout: -1})
		t.Cleanup(func() {
			require.NoError(t, c.Close())
			stop()
		})
		return c
	}
	require.Fail(t, "no free port")
	return nil
}

func do(t testing.TB, c *redis.Client, args ...any) any {
	t.Helper()
	v, err := c.Do(context.Background(), args...).Result()
	require.NoError(t, err, "%.100v", args)
	return v
}
