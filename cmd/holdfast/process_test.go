package main

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/holdfast-db/holdfast/bench"
	"github.com/holdfast-db/holdfast/server/servertest"
)

// programEnv makes the test binary be the program: what is killed here is a real process.
const programEnv = "HOLDFAST_TEST_RUN_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(programEnv) != "" {
		os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
	}
	os.Exit(m.Run())
}

// waitLimit is how long a real process may take to reach a state that is waited for.
const waitLimit = 30 * time.Second

// start starts the program on a data directory and returns it when it answers. It is killed at the end of the test.
func start(t *testing.T, dir string, args ...string) *bench.Process {
	t.Helper()
	t.Setenv(programEnv, "1")
	ctx, cancel := context.WithTimeout(context.Background(), waitLimit)
	defer cancel()
	bin, err := os.Executable()
	require.NoError(t, err)
	p, err := bench.Start(ctx, bench.Spec{Kind: bench.Holdfast, Binary: bin, Dir: dir, Args: args})
	require.NoError(t, err)
	t.Cleanup(func() { _ = p.Kill() }) // it may have ended already
	return p
}

func dial(t *testing.T, p *bench.Process) *servertest.Client {
	t.Helper()
	c, err := servertest.Dial(p.Addr)
	require.NoError(t, err)
	t.Cleanup(func() { _ = c.Close() }) // its server may be gone
	return c
}

func do(t *testing.T, c *servertest.Client, args ...string) string {
	t.Helper()
	r, err := c.Do(args...)
	require.NoError(t, err)
	return string(r)
}

// program runs another process of this program and returns what it printed and its exit status.
func program(t *testing.T, args ...string) (stdout, stderr string, status int) {
	t.Helper()
	bin, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.Command(bin, args...)
	cmd.Env = append(os.Environ(), programEnv+"=1")
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		require.ErrorAs(t, err, new(*exec.ExitError))
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// smallDisk mounts a file system in memory of so many bytes.
func smallDisk(t *testing.T, size int) string {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("mounts a tmpfs, which is Linux's")
	}
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d", size)); err != nil {
		t.Skipf("a tmpfs cannot be mounted (it takes root): %v", err)
	}
	t.Cleanup(func() { require.NoError(t, syscall.Unmount(dir, syscall.MNT_DETACH)) })
	return dir
}

func fill(t *testing.T, name string, size int) {
	t.Helper()
	require.NoError(t, os.WriteFile(name, make([]byte, size), 0o600))
}

// value is what key i holds: it does not compress, and a wrong one is seen.
func value(i int64) string {
	r := rand.New(rand.NewPCG(uint64(i), 9))
	b := make([]byte, 8000)
	for k := range b {
		b[k] = byte('a' + r.IntN(26))
	}
	return string(b)
}

// A full disk refuses writes and nothing else; with room again the same process takes writes; nothing that was
// acknowledged is lost (W4, A2).
func TestDiskFull(t *testing.T) {
	disk := smallDisk(t, 160<<20)
	dir := filepath.Join(disk, "data")
	require.NoError(t, os.Mkdir(dir, 0o755))
	filler := filepath.Join(disk, "filler")
	fill(t, filler, 60<<20)
	p := start(t, dir, "--appendfsync", "always")

	const clients = 4
	var next, acked atomic.Int64
	var known sync.Map // index of each acknowledged key
	var wg sync.WaitGroup
	refusals := make(chan string, clients)
	for range clients {
		c, err := servertest.Dial(p.Addr)
		require.NoError(t, err)
		wg.Go(func() {
			defer c.Close()
			for {
				i := next.Add(1)
				r, err := c.Do("SET", fmt.Sprint("k", i), value(i))
				if err != nil {
					refusals <- err.Error()
					return
				}
				if string(r) != "+OK\r\n" {
					refusals <- string(r)
					return
				}
				known.Store(i, true)
				acked.Add(1)
			}
		})
	}
	wg.Wait()
	for range clients {
		require.Equal(t, "-MISCONF Errors writing to the AOF file: No space left on device\r\n", <-refusals)
	}
	require.Positive(t, acked.Load())

	c := dial(t, p)
	same := func(c *servertest.Client) {
		t.Helper()
		known.Range(func(k, _ any) bool {
			i := k.(int64)
			v := value(i)
			require.Equal(t, fmt.Sprintf("$%d\r\n%s\r\n", len(v), v), do(t, c, "GET", fmt.Sprint("k", i)), "key k%d", i)
			return true
		})
	}
	same(c)
	require.Contains(t, do(t, c, "SET", "again", "1"), "MISCONF")
	require.Contains(t, do(t, c, "INFO", "persistence"), "aof_last_write_status:err")

	require.NoError(t, os.Remove(filler))
	require.Eventually(t, func() bool { return do(t, c, "SET", "again", "2") == "+OK\r\n" }, waitLimit, 20*time.Millisecond)
	same(c)
	require.Contains(t, do(t, c, "INFO", "persistence"), "aof_last_write_status:ok")

	// It fills up a second time, and again what is there stays.
	fill(t, filler, 40<<20)
	for i := int64(1 << 20); ; i++ {
		r := do(t, c, "SET", fmt.Sprint("k", i), value(i))
		if strings.HasPrefix(r, "-MISCONF") {
			break
		}
		require.Equal(t, "+OK\r\n", r)
		known.Store(i, true)
	}
	same(c)
	require.NoError(t, p.Kill())
	require.NoError(t, os.Remove(filler))

	out, errs, status := program(t, "check", dir)
	require.Zero(t, status, "%s%s", out, errs)
	p = start(t, dir, "--appendfsync", "always")
	c = dial(t, p)
	require.Equal(t, "$1\r\n2\r\n", do(t, c, "GET", "again"))
	same(c)
}

// A server starts on a disk that is full, serves reads, and takes writes when there is room.
func TestStartOnFullDisk(t *testing.T) {
	disk := smallDisk(t, 160<<20)
	dir := filepath.Join(disk, "data")
	require.NoError(t, os.Mkdir(dir, 0o755))
	p := start(t, dir, "--appendfsync", "always")
	require.Equal(t, "+OK\r\n", do(t, dial(t, p), "SET", "old", "1"))
	require.NoError(t, p.Kill())

	filler := filepath.Join(disk, "filler")
	var st syscall.Statfs_t
	require.NoError(t, syscall.Statfs(disk, &st))
	fill(t, filler, int(st.Bavail)*int(st.Bsize))
	p = start(t, dir, "--appendfsync", "always")
	c := dial(t, p)
	require.Equal(t, "$1\r\n1\r\n", do(t, c, "GET", "old"))
	require.NoError(t, os.Remove(filler))
	require.Eventually(t, func() bool { return do(t, c, "SET", "new", "2") == "+OK\r\n" }, waitLimit, 20*time.Millisecond)
	require.NoError(t, p.Kill())
	out, errs, status := program(t, "check", dir)
	require.Zero(t, status, "%s%s", out, errs)
}

// check of a directory that a server holds is refused in one line.
func TestCheckOfLiveDirectory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	require.NoError(t, os.Mkdir(dir, 0o755))
	start(t, dir)
	out, errs, status := program(t, "check", dir)
	require.Equal(t, 1, status)
	require.Empty(t, out)
	require.Equal(t, 1, strings.Count(errs, "\n"), errs)
	require.Contains(t, errs, "in use by another process")
}
