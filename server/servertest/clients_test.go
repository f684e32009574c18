package servertest_test

import (
	"bytes"
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/holdfast-db/holdfast/bench"
)

// clientLimit bounds one client program: a server that does not answer fails the test instead of hanging it.
const clientLimit = 2 * time.Minute

// TestClients runs what applications use against a Holdfast process, and against redis-server, which proves the scripts
// right. Where HOLDFAST_CLIENTS=1 nothing is skipped; `make clients` sets it when all clients are installed.
func TestClients(t *testing.T) {
	for _, kind := range []bench.Kind{bench.Redis, bench.Holdfast} {
		t.Run("server="+string(kind), func(t *testing.T) {
			addr := startProcess(t, kind)
			for _, c := range []struct {
				name string
				run  func(t *testing.T, addr string)
			}{
				{"redis-cli", redisCLI},
				{"go-redis", goRedis},
				{"redis-py", func(t *testing.T, addr string) {
					optional(t, exec.Command("/usr/bin/python3", "-c", "import redis"))
					t.Log(program(t, "/usr/bin/python3", filepath.Join("clients", "redis_py.py"), addr))
				}},
				{"node-redis", func(t *testing.T, addr string) { node(t, "node_redis.js", addr) }},
				{"ioredis", func(t *testing.T, addr string) { node(t, "ioredis.js", addr) }},
				{"redis-benchmark", redisBenchmark},
			} {
				t.Run("client="+c.name, func(t *testing.T) {
					require.Equal(t, "OK\n", cli(t, addr, "", "FLUSHALL"))
					c.run(t, addr)
				})
			}
		})
	}
}

// startProcess starts a server process that ends with the test, in order, and returns its address.
func startProcess(t *testing.T, kind bench.Kind) string {
	dir := filepath.Join(t.TempDir(), "data")
	require.NoError(t, os.Mkdir(dir, 0o755))
	spec := bench.Spec{Kind: kind, Dir: dir}
	switch kind {
	case bench.Redis:
		optional(t, exec.Command("redis-server", "--version"))
	case bench.Holdfast:
		spec.Binary = filepath.Join(t.TempDir(), "holdfast")
		out, err := exec.Command("go", "build", "-o", spec.Binary, "../../cmd/holdfast").CombinedOutput()
		require.NoError(t, err, "%s", out)
	}
	p, err := bench.Start(t.Context(), spec)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, p.Stop()) })
	return p.Addr
}

// optional skips the test if a program that it needs is missing, unless all have to be there.
func optional(t *testing.T, probe *exec.Cmd) {
	if out, err := probe.CombinedOutput(); err != nil {
		if os.Getenv("HOLDFAST_CLIENTS") == "1" {
			t.Fatalf("%s: %v: %s", strings.Join(probe.Args, " "), err, out)
		}
		t.Skipf("%s: %v (make clients installs what is missing)", strings.Join(probe.Args, " "), err)
	}
}

// program runs a client to its end, which must be good, and returns what it printed.
func program(t *testing.T, name string, args ...string) string {
	ctx, cancel := context.WithTimeout(t.Context(), clientLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	require.NoError(t, err, "%s\n%s\n%s", strings.Join(cmd.Args, " "), out, stderr.String())
	return string(bytes.TrimSpace(out))
}

func node(t *testing.T, script, addr string) {
	probe := exec.Command("node", "-e", "require('ioredis'); require('redis')")
	probe.Dir = "clients"
	optional(t, probe)
	t.Log(program(t, "node", filepath.Join("clients", script), addr))
}

// cli runs redis-cli with commands from its input or its arguments and returns its output.
func cli(t *testing.T, addr, input string, args ...string) string {
	optional(t, exec.Command("redis-cli", "--version"))
	host, port, err := net.SplitHostPort(addr)
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), clientLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, "redis-cli", append([]string{"-h", host, "-p", port}, args...)...)
	cmd.Stdin = strings.NewReader(input)
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "redis-cli %v: %s", args, out)
	return string(out)
}

// redisCLI runs a first session and the modes of redis-cli that read the whole data.
func redisCLI(t *testing.T, addr string) {
	require.Equal(t, "OK\nhello\n3\n2\nbob\n7\nann\n10\n\n", cli(t, addr,
		"SET greeting hello\nGET greeting\nLPUSH queue a b c\nZADD board 10 ann 7 bob\nZRANGE board 0 -1 WITHSCORES\nGET absent\n"))
	require.Equal(t, "1) 1) \"ann\"\n   2) (double) 10\n",
		cli(t, addr, "", "-3", "--no-raw", "ZRANGE", "board", "10", "20", "BYSCORE", "WITHSCORES"))
	require.Contains(t, cli(t, addr, "", "--bigkeys"), "Sampled 3 keys in the keyspace!")
	require.Contains(t, cli(t, addr, "", "--memkeys"), "Sampled 3 keys in the keyspace!")
	require.Equal(t, "board\ngreeting\nqueue\n", sortedLines(cli(t, addr, "", "--scan")))

	// Mass insertion, 20 000 commands in RESP.
	var b []byte
	for i := range 20_000 {
		b = bench.AppendCommand(b, "RPUSH", "mass", strings.Repeat("x", i%100))
	}
	require.Contains(t, cli(t, addr, string(b), "--pipe"), "errors: 0, replies: 20000")
	require.Equal(t, "20000\n", cli(t, addr, "", "LLEN", "mass"))
	require.Equal(t, "PONG\nPONG\nPONG\n", cli(t, addr, "", "-r", "3", "PING"))
	require.Contains(t, cli(t, addr, "", "INFO", "server"), "redis_version:7.")
}

func sortedLines(s string) string {
	lines := strings.Fields(s)
	slices.Sort(lines)
	return strings.Join(lines, "\n") + "\n"
}

// redisBenchmark runs every test of redis-benchmark briefly; the server must answer none with an error.
func redisBenchmark(t *testing.T, addr string) {
	optional(t, exec.Command("redis-benchmark", "--version"))
	host, port, err := net.SplitHostPort(addr)
	require.NoError(t, err)
	cli(t, addr, "", "CONFIG", "RESETSTAT")
	for _, pipeline := range []string{"1", "16"} {
		program(t, "redis-benchmark", "-h", host, "-p", port, "-q", "-n", "2000", "-r", "100", "-P", pipeline)
	}
	require.Contains(t, cli(t, addr, "", "INFO", "stats"), "total_error_replies:0\r\n")
}
