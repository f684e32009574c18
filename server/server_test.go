package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/holdfast-db/holdfast/server/engine"
)

// until waits for something that another goroutine or process brings about.
func until(t *testing.T, what string, cond func() bool) {
	require.Eventually(t, cond, 10*time.Second, time.Millisecond, what)
}

func TestBlockedClientLeavesAndOthersGoOn(t *testing.T) {
	s := holdfast(t)
	a, b := dial(t, s.Addr()), dial(t, s.Addr())
	a.send("BLPOP", "k", "0")
	until(t, "the client is blocked", func() bool { return strings.Contains(b.do("CLIENT", "LIST"), "flags=b ") })
	require.Contains(t, b.do("INFO", "clients"), "blocked_clients:1\r\n")
	require.NoError(t, a.c.Close())
	until(t, "the client is forgotten", func() bool { return strings.Contains(b.do("INFO", "clients"), "blocked_clients:0\r\n") })
	require.Equal(t, "+PONG\r\n", b.do("PING"))
}

func TestUnblock(t *testing.T) {
	s := holdfast(t)
	a, b := dial(t, s.Addr()), dial(t, s.Addr())
	for _, how := range [][2]string{{"TIMEOUT", "*-1\r\n"}, {"ERROR", "-UNBLOCKED client unblocked via CLIENT UNBLOCK\r\n"}} {
		id := strings.Trim(a.do("CLIENT", "ID"), ":\r\n")
		a.send("BLPOP", "k", "0")
		until(t, "it can be unblocked", func() bool { return b.do("CLIENT", "UNBLOCK", id, how[0]) == ":1\r\n" })
		require.Equal(t, how[1], a.read())
		require.Equal(t, ":0\r\n", b.do("CLIENT", "UNBLOCK", id))
	}
	// What was pipelined behind the blocked command runs after it.
	id := strings.Trim(a.do("CLIENT", "ID"), ":\r\n")
	a.raw("BLPOP k 0\r\nPING after\r\n")
	until(t, "it can be unblocked", func() bool { return b.do("CLIENT", "UNBLOCK", id) == ":1\r\n" })
	require.Equal(t, "*-1\r\n", a.read())
	require.Equal(t, "$5\r\nafter\r\n", a.read())
}

func TestKill(t *testing.T) {
	s := holdfast(t)
	a, b := dial(t, s.Addr()), dial(t, s.Addr())
	id := strings.Trim(a.do("CLIENT", "ID"), ":\r\n")
	require.Equal(t, ":1\r\n", b.do("CLIENT", "KILL", "ID", id))
	require.Equal(t, "", a.read())
	require.Equal(t, ":1\r\n", b.do("CLIENT", "KILL", "SKIPME", "no"))
	require.Equal(t, "", b.read())
	c := dial(t, s.Addr())
	require.Equal(t, "+OK\r\n", c.do("CLIENT", "KILL", c.c.LocalAddr().String()))
	require.Equal(t, "", c.read())
}

func TestPause(t *testing.T) {
	s := holdfast(t)
	a, b, c := dial(t, s.Addr()), dial(t, s.Addr()), dial(t, s.Addr())
	require.Equal(t, "+OK\r\n", a.do("CLIENT", "PAUSE", "100000", "WRITE"))
	require.Equal(t, "$-1\r\n", b.do("GET", "k"), "reads go on")
	b.send("SET", "k", "1")
	c.raw("MULTI\r\nSET k 2\r\nEXEC\r\n")
	require.Equal(t, "+OK\r\n", c.read())
	until(t, "both writers wait", func() bool { return strings.Count(a.do("CLIENT", "LIST"), "flags=b") >= 2 })
	require.Equal(t, "$-1\r\n", a.do("GET", "k"))
	require.Equal(t, "+OK\r\n", a.do("CLIENT", "UNPAUSE"))
	require.Equal(t, "+OK\r\n", b.read())
	require.Equal(t, "+QUEUED\r\n", c.read(), "a write waits already where it would be queued, as in Redis")
	require.Equal(t, "*1\r\n+OK\r\n", c.read())
	// A pause of everything ends by itself.
	require.Equal(t, "+OK\r\n", a.do("CLIENT", "PAUSE", "20"))
	require.Equal(t, "+PONG\r\n", b.do("PING"))
}

func TestPipelineLongerThanASlice(t *testing.T) {
	s := holdfast(t)
	w := dial(t, s.Addr())
	const n = 10 * sliceCommands
	var req bytes.Buffer
	for i := range n {
		fmt.Fprintf(&req, "SET k%d v%d\r\nGET k%d\r\n", i, i, i)
	}
	go func() { _, _ = w.c.Write(req.Bytes()) }() // a failed write shows as missing replies
	for i := range n {
		require.Equal(t, "+OK\r\n", w.read())
		v := fmt.Sprintf("v%d", i)
		require.Equal(t, fmt.Sprintf("$%d\r\n%s\r\n", len(v), v), w.read())
	}
	calls, failed := s.stats.totals()
	require.EqualValues(t, 2*n, calls)
	require.Zero(t, failed)
}

func TestWatch(t *testing.T) {
	s := holdfast(t)
	a, b := dial(t, s.Addr()), dial(t, s.Addr())
	a.line("watch k")
	b.line("set k 1")
	a.line("multi")
	a.line("get k")
	require.Equal(t, "*-1\r\n", a.line("exec"))
	a.line("multi")
	a.line("get k")
	require.Equal(t, "*1\r\n$1\r\n1\r\n", a.line("exec"), "EXEC forgets what was watched")
	a.line("watch k")
	a.line("unwatch")
	b.line("set k 2")
	a.line("multi")
	require.Equal(t, "*0\r\n", a.line("exec"))
}

// Keys that are only on disk are read without the loop waiting, in commands and in transactions alike.
func TestColdKeys(t *testing.T) {
	s := holdfast(t)
	w := dial(t, s.Addr())
	for i := range 100 {
		w.do("SET", fmt.Sprint("k", i), fmt.Sprint("v", i))
	}
	require.Equal(t, "+OK\r\n", w.line("save"))
	require.NotEqual(t, ":0\r\n", w.line("debug unload"))
	w.raw("GET k1\r\nGET k2\r\nMULTI\r\nGET k3\r\nGET k4\r\nEXEC\r\nGET k5\r\nGET nosuch\r\n")
	for _, want := range []string{"$2\r\nv1\r\n", "$2\r\nv2\r\n", "+OK\r\n", "+QUEUED\r\n", "+QUEUED\r\n", "*2\r\n$2\r\nv3\r\n$2\r\nv4\r\n", "$2\r\nv5\r\n", "$-1\r\n"} {
		require.Equal(t, want, w.read())
	}
}

func TestRenameCommand(t *testing.T) {
	conf := filepath.Join(t.TempDir(), "c.conf")
	require.NoError(t, os.WriteFile(conf, []byte("rename-command CONFIG secretconf\nrename-command debug \"\"\n"), 0o644))
	cfg := NewConfig()
	require.NoError(t, cfg.LoadFile(conf))
	require.NoError(t, cfg.LoadFlags([]string{"--dir", t.TempDir(), "--bind", "127.0.0.1"}))
	s, err := Start(context.Background(), Options{Config: cfg, AnyPort: true})
	require.NoError(t, err)
	defer func() { require.NoError(t, s.Close(context.Background())) }()
	w := dial(t, s.Addr())
	require.Equal(t, "-ERR unknown command 'config', with args beginning with: 'get' 'hz' \r\n", w.line("config get hz"))
	require.Equal(t, "*2\r\n$2\r\nhz\r\n$2\r\n10\r\n", w.line("SECRETconf get hz"))
	require.Contains(t, w.line("debug sleep 0"), "-ERR unknown command")

	for lines, want := range map[string]string{"rename-command nosuch x": "No such command in rename-command",
		"rename-command get set": "Target command name already exists"} {
		require.NoError(t, os.WriteFile(conf, []byte(lines+"\n"), 0o644))
		cfg := NewConfig()
		require.NoError(t, cfg.LoadFile(conf))
		require.NoError(t, cfg.LoadFlags([]string{"--dir", t.TempDir(), "--bind", "127.0.0.1"}))
		_, err := Start(context.Background(), Options{Config: cfg, AnyPort: true})
		require.ErrorContains(t, err, want)
	}
}

func TestStatistics(t *testing.T) {
	s := holdfast(t)
	w := dial(t, s.Addr())
	w.line("config set slowlog-log-slower-than 0 latency-monitor-threshold 1")
	w.line("client setname me")
	w.line("set k v")
	w.line("get k")
	w.line("get")
	w.line("nosuch")
	w.line("auth x")
	w.line("debug sleep 0.002")
	info := w.line("info everything")
	for _, want := range []string{"cmdstat_get:calls=1,", "rejected_calls=1,failed_calls=0", "cmdstat_config|set:calls=1,", "cmdstat_auth:calls=1,",
		"errorstat_ERR:count=3", "total_error_replies:3", "latency_percentiles_usec_get:p50=", "# Holdfast\r\n", "db0:keys=1,"} {
		require.Contains(t, info, want)
	}
	log := w.line("slowlog get 128")
	require.Contains(t, log, "$2\r\nme\r\n")
	require.Contains(t, log, "$10\r\n(redacted)\r\n", "passwords stay out of the slow log")
	require.Contains(t, w.line("latency latest"), "$7\r\ncommand\r\n")
	require.NotEqual(t, "*0\r\n", w.line("latency history command"))
	require.Contains(t, w.line("latency histogram get"), "histogram_usec")
	require.Contains(t, w.line("latency doctor"), "command: ")
	w.line("config set slowlog-log-slower-than -1")
	w.line("slowlog reset")
	require.Equal(t, ":0\r\n", w.line("slowlog len"))
	w.line("config resetstat")
	require.NotContains(t, w.line("info commandstats"), "cmdstat_get:")
	args := make([]string, 40)
	for i := range args {
		args[i] = strings.Repeat("x", 200)
	}
	w.line("config set slowlog-log-slower-than 0")
	w.do(append([]string{"DEL"}, args...)...)
	require.Contains(t, w.line("slowlog get 2"), strings.Repeat("x", 128)+"... (72 more bytes)")
	require.Contains(t, w.line("slowlog get 5"), "... (10 more arguments)")
}

func TestHistogram(t *testing.T) {
	var h histogram
	for i := range int64(histogramBuckets) {
		require.EqualValues(t, i, histogramBucket(histogramTop(int(i))), "the top of a bucket lies in it")
		if i+1 < histogramBuckets {
			require.EqualValues(t, i+1, histogramBucket(histogramTop(int(i))+1), "and the next value in the next")
		}
	}
	for i := range int64(1000) {
		h.add((i + 1) * 1000)
	}
	for _, p := range []float64{1, 50, 99, 99.9, 100} {
		got, want := float64(h.percentile(p)), p/100*1e6
		require.InDelta(t, want, got, want*0.07+1000, "p%v", p)
	}
	bounds, counts := h.cumulative()
	require.Equal(t, int64(1000), counts[len(counts)-1])
	require.IsIncreasing(t, bounds)
	require.IsIncreasing(t, counts)
}

func TestStartErrors(t *testing.T) {
	dir := t.TempDir()
	start := func(flags ...string) error {
		cfg := NewConfig()
		require.NoError(t, cfg.LoadFlags(append([]string{"--bind", "127.0.0.1", "--port", "0", "--dir", dir}, flags...)))
		s, err := Start(context.Background(), Options{Config: cfg})
		if err == nil {
			err = errors.Join(errors.New("started"), s.Close(context.Background()))
		}
		require.NotContains(t, err.Error(), "\n")
		return err
	}
	require.ErrorContains(t, start("--replica-read-only", "no"), "replica-read-only no is not supported")
	require.ErrorContains(t, start("--aclfile", "x"), "aclfile")
	require.ErrorContains(t, start("--cluster-enabled", "yes"), "cluster")
	require.ErrorContains(t, start(), "nothing to listen on")
	require.ErrorContains(t, start("--tls-port", "1"), "tls-cert-file")

	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer ln.Close()
	taken := fmt.Sprint(ln.Addr().(*net.TCPAddr).Port)
	require.ErrorIs(t, start("--port", taken), syscall.EADDRINUSE)

	require.Contains(t, startError(NewConfig(), start("--port", taken)), "port "+taken+" is taken by another process")
	sock := filepath.Join(t.TempDir(), "s")
	un, err := net.Listen("unix", sock)
	require.NoError(t, err)
	defer un.Close()
	require.Contains(t, startError(NewConfig(), start("--unixsocket", sock)), "unix socket "+sock+" is taken by another process")

	s := holdfast(t)
	require.ErrorIs(t, start("--port", taken, "--dir", s.cfg.Text("dir")), engine.ErrLocked)

	require.NoError(t, os.WriteFile(filepath.Join(dir, "FORMAT"), []byte("holdfast 99\n"), 0o644))
	require.ErrorContains(t, start("--port", taken), "unknown format")
}

// build makes the program once for the tests that need a process.
func build(t *testing.T) string {
	bin := filepath.Join(t.TempDir(), "holdfast")
	out, err := exec.Command("go", "build", "-o", bin, "github.com/holdfast-db/holdfast/cmd/holdfast").CombinedOutput()
	require.NoError(t, err, string(out))
	return bin
}

// A process serves, keeps its data over SIGTERM, kill -9 and SHUTDOWN, and says why it ends.
func TestProcess(t *testing.T) {
	if testing.Short() {
		t.Skip("builds the program")
	}
	bin, dir := build(t), t.TempDir()
	sock := filepath.Join(dir, "s")
	pid := filepath.Join(dir, "pid")
	run := func(flags ...string) (*exec.Cmd, *bytes.Buffer) {
		cmd := exec.Command(bin, append([]string{"serve", "--port", "0", "--unixsocket", sock, "--dir", filepath.Join(dir, "data"), "--pidfile", pid}, flags...)...)
		var out bytes.Buffer
		cmd.Stderr = &out
		require.NoError(t, cmd.Start())
		t.Cleanup(func() { _ = cmd.Process.Kill() }) // it has ended if all went well
		return cmd, &out
	}
	connect := func() *wire {
		var w *wire
		until(t, "the server accepts connections", func() bool {
			c, err := net.Dial("unix", sock)
			if err != nil {
				return false
			}
			w = newWire(t, c)
			return true
		})
		return w
	}
	cmd, _ := run()
	w := connect()
	require.Equal(t, "+OK\r\n", w.line("set a 1"))
	until(t, "the pid file is there", func() bool {
		b, err := os.ReadFile(pid)
		return err == nil && strings.TrimSpace(string(b)) == fmt.Sprint(cmd.Process.Pid)
	})
	require.NoError(t, cmd.Process.Signal(syscall.SIGTERM))
	require.NoError(t, cmd.Wait(), "SIGTERM ends it with status 0")
	require.NoFileExists(t, pid)
	require.NoFileExists(t, sock)

	cmd, _ = run()
	w = connect()
	require.Equal(t, "$1\r\n1\r\n", w.line("get a"))
	require.Equal(t, "+OK\r\n", w.line("set b 2"))
	require.NoError(t, cmd.Process.Kill())
	_ = cmd.Wait() // killed

	cmd, _ = run()
	w = connect()
	require.Equal(t, "$1\r\n2\r\n", w.line("get b"), "acknowledged under appendfsync always (W4)")
	w.send("SHUTDOWN")
	require.Equal(t, "", w.read())
	require.NoError(t, cmd.Wait())

	cmd, _ = run()
	w = connect()
	require.Equal(t, "+OK\r\n", w.line("set c 3"))
	w.send("SHUTDOWN", "NOSAVE")
	require.Equal(t, "", w.read())
	require.NoError(t, cmd.Wait())
	cmd, _ = run()
	w = connect()
	require.Equal(t, "$1\r\n3\r\n", w.line("get c"), "the log has what the checkpoint has not")
	other, out := run("--unixsocket", sock+"2")
	require.Error(t, other.Wait())
	require.Contains(t, out.String(), "is in use by another process")
	require.NoError(t, cmd.Process.Signal(os.Interrupt))
	require.NoError(t, cmd.Wait())

	text, err := exec.Command(bin, "log", filepath.Join(dir, "data")).CombinedOutput()
	require.NoError(t, err, string(text))
	for _, want := range []string{`"set" "a" "1"`, `"set" "b" "2"`, `"set" "c" "3"`} {
		require.Contains(t, string(text), want)
	}
	text, err = exec.Command(bin, "check", filepath.Join(dir, "data")).CombinedOutput()
	require.NoError(t, err, string(text))
	require.Contains(t, string(text), "ok\n")
}

// With daemonize yes the command ends once the server serves, in a session of its own, or when it could not start, having said why.
func TestDaemonize(t *testing.T) {
	if testing.Short() {
		t.Skip("builds the program")
	}
	bin, dir := build(t), t.TempDir()
	sock, pid := filepath.Join(dir, "s"), filepath.Join(dir, "pid")
	start := func() (string, error) {
		out, err := exec.Command(bin, "serve", "--port", "0", "--unixsocket", sock, "--dir", filepath.Join(dir, "data"),
			"--pidfile", pid, "--logfile", filepath.Join(dir, "log"), "--daemonize", "yes").CombinedOutput()
		return string(out), err
	}
	out, err := start()
	require.NoError(t, err, out)
	require.Empty(t, out)
	b, err := os.ReadFile(pid)
	require.NoError(t, err)
	n, err := strconv.Atoi(strings.TrimSpace(string(b)))
	require.NoError(t, err)
	t.Cleanup(func() { _ = syscall.Kill(n, syscall.SIGKILL) }) // it has ended if all went well
	sid, err := unix.Getsid(n)
	require.NoError(t, err)
	require.Equal(t, n, sid)
	c, err := net.Dial("unix", sock)
	require.NoError(t, err, "it serves when the command ends")
	w := newWire(t, c)
	require.Equal(t, "+OK\r\n", w.line("set a 1"))

	out, err = start()
	var exit *exec.ExitError
	require.ErrorAs(t, err, &exit)
	require.Equal(t, 1, exit.ExitCode())
	require.Equal(t, fmt.Sprintf("holdfast: data directory %s is in use by another process\n", filepath.Join(dir, "data")), out)

	w.send("SHUTDOWN")
	require.Equal(t, "", w.read())
	until(t, "the pid file is gone", func() bool {
		_, err := os.Stat(pid)
		return errors.Is(err, os.ErrNotExist)
	})
	log, err := os.ReadFile(filepath.Join(dir, "log"))
	require.NoError(t, err)
	require.Contains(t, string(log), "ready to accept connections")
}

// Replies leave before a command that waits, also where the commands before it were executed off the loop.
func TestRepliesLeaveBeforeAWait(t *testing.T) {
	s := holdfast(t)
	w, other := dial(t, s.Addr()), dial(t, s.Addr())
	w.line("set cold v")
	w.line("save")
	for _, wait := range [][2]string{{"BLPOP l 0", "RPUSH l x"}, {"WAIT 1 0", ""}} {
		require.NotEqual(t, ":0\r\n", other.line("debug unload"))
		w.raw("GET cold\r\nPING\r\n" + wait[0] + "\r\nPING after\r\n")
		require.Equal(t, "$1\r\nv\r\n", w.read())
		require.Equal(t, "+PONG\r\n", w.read())
		if wait[1] == "" {
			return // nobody will ever answer
		}
		other.line(wait[1])
		require.Equal(t, "*2\r\n$1\r\nl\r\n$1\r\nx\r\n", w.read())
		require.Equal(t, "$5\r\nafter\r\n", w.read())
	}
}
