package main

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

var followedLine = regexp.MustCompile(`^(\d+) .*"SET" "(k\d+)" `)

// holdfast log --follow, a process of its own, prints what another process writes, each record once and in order, over a kill -9
// and a restart of the writer; an interrupt ends it in order.
func TestFollowLog(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	p := start(t, dir, "--appendfsync", "always")
	bin, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.Command(bin, "log", dir, "--follow", "--format", "text")
	cmd.Env = append(os.Environ(), programEnv+"=1")
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() { _ = cmd.Process.Kill() }) // it may have ended already
	lines := make(chan string, 1000)
	go func() {
		defer close(lines)
		for sc := bufio.NewScanner(out); sc.Scan(); {
			lines <- sc.Text()
		}
	}()

	next, last := 0, int64(-1)
	follow := func(upTo int) {
		deadline := time.After(waitLimit)
		for next < upTo {
			select {
			case line, ok := <-lines:
				require.True(t, ok, "the output ended")
				m := followedLine.FindStringSubmatch(line)
				if m == nil {
					continue // SELECT
				}
				var at int64
				_, err := fmt.Sscan(m[1], &at)
				require.NoError(t, err)
				require.Greater(t, at, last)
				require.Equal(t, fmt.Sprint("k", next), m[2])
				next, last = next+1, at
			case <-deadline:
				require.Fail(t, "nothing more is printed", "%d of %d records", next, upTo)
			}
		}
	}
	for round := range 3 {
		c := dial(t, p)
		for i := range 50 {
			require.Equal(t, "+OK\r\n", do(t, c, "SET", fmt.Sprint("k", round*50+i), value(int64(i))[:200]))
		}
		follow(round*50 + 50)
		if round == 0 {
			require.NoError(t, p.Kill())
			p = start(t, dir, "--appendfsync", "always")
		} else if round == 1 {
			do(t, c, "SAVE")
		}
	}
	require.NoError(t, cmd.Process.Signal(syscall.SIGINT))
	for range lines {
	}
	require.NoError(t, cmd.Wait())
}
