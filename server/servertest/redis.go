package servertest

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Proc is a redis-server that runs for one test.
type Proc struct {
	Addr string // host:port
	Dir  string // its working directory
	cmd  *exec.Cmd
}

// startTries is how often Redis looks for a port: between the kernel's choice and the server's bind another process may take it.
const startTries = 5

// Redis starts a real redis-server with args added to its command line, on a loopback port that the kernel chooses, and
// ends it with the test. Where no redis-server is installed the test is skipped; with CI=true it fails, so that a missing
// oracle cannot pass for agreement.
func Redis(t testing.TB, args ...string) *Proc {
	t.Helper()
	path, err := exec.LookPath("redis-server")
	if err != nil {
		if os.Getenv("CI") == "true" {
			require.NoError(t, err)
		}
		t.Skip("redis-server is not installed")
	}
	for range startTries {
		if p := tryRedis(t, path, args); p != nil {
			return p
		}
	}
	require.FailNow(t, "redis-server did not start")
	return nil
}

// tryRedis returns nil if the process ended before it answered.
func tryRedis(t testing.TB, path string, args []string) *Proc {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	port := ln.Addr().(*net.TCPAddr).Port
	require.NoError(t, ln.Close())

	p := &Proc{Addr: fmt.Sprintf("127.0.0.1:%d", port), Dir: t.TempDir()}
	p.cmd = exec.Command(path, append([]string{"--bind", "127.0.0.1", "--port", strconv.Itoa(port), "--save", "", "--dir", p.Dir,
		"--enable-debug-command", "yes", "--enable-protected-configs", "yes"}, args...)...)
	var out bytes.Buffer
	p.cmd.Stdout, p.cmd.Stderr = &out, &out
	require.NoError(t, p.cmd.Start())
	exited := make(chan error, 1)
	go func() { exited <- p.cmd.Wait() }()

	deadline := time.Now().Add(20 * time.Second)
	for {
		select {
		case err := <-exited:
			t.Logf("redis-server ended (%v):\n%s", err, out.String())
			return nil
		default:
		}
		if p.answers() {
			break
		}
		require.True(t, time.Now().Before(deadline), "redis-server does not answer")
	}
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill() // the test may have ended it already
		<-exited
	})
	return p
}

// answers tells whether the process that listens on the port is this one.
func (p *Proc) answers() bool {
	conn, err := net.DialTimeout("tcp", p.Addr, time.Second)
	if err != nil {
		return false
	}
	c := newClient(conn)
	defer c.Close()
	info, err := c.Do("INFO", "server")
	return err == nil && strings.Contains(string(info), fmt.Sprintf("process_id:%d\r\n", p.cmd.Process.Pid))
}
