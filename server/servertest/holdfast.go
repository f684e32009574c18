package servertest

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/holdfast-db/holdfast/server"
	"github.com/holdfast-db/holdfast/server/engine"
)

// Node is a server of ours in this process: on a file system in memory, on a loopback port that the kernel chooses, with a
// clock that follows the real one until a test moves it ahead. It ends with its test.
type Node struct {
	Addr  string // host:port; another one after Crash and Recover
	t     testing.TB
	flags []string
	fs    *vfs.MemFS
	srv   *server.Server
	ahead atomic.Int64 // what the clock is ahead of the real one, in ns
}

// dataDir is the data directory inside the file system in memory.
const dataDir = "/data"

// Holdfast starts a server with flags added to its command line (--appendfsync everysec).
func Holdfast(t testing.TB, flags ...string) *Node {
	t.Helper()
	n := &Node{t: t, flags: flags, fs: vfs.NewCrashableMem()}
	n.start()
	t.Cleanup(func() { n.stop() })
	return n
}

func (n *Node) start() {
	n.t.Helper()
	cfg := server.NewConfig()
	require.NoError(n.t, cfg.LoadFlags(append([]string{"--bind", "127.0.0.1", "--dir", dataDir,
		"--enable-debug-command", "yes", "--enable-protected-configs", "yes"}, n.flags...)))
	fs := n.fs
	srv, err := server.Start(context.Background(), server.Options{Config: cfg, AnyPort: true, Engine: func(o *engine.Options) {
		o.FS, o.Now, o.BallastBytes, o.CacheBytes = fs, n.now, -1, 1<<20
	}})
	require.NoError(n.t, err)
	n.srv, n.Addr = srv, srv.Addr()
}

func (n *Node) stop() {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), replyLimit)
	defer cancel()
	require.NoError(n.t, n.srv.Close(ctx))
}

func (n *Node) now() time.Time { return time.Now().Add(time.Duration(n.ahead.Load())) }

// Advance moves the clock ahead by d.
func (n *Node) Advance(d time.Duration) { n.ahead.Add(int64(d)) }

// Checkpoint writes a checkpoint and waits for it.
func (n *Node) Checkpoint() {
	n.t.Helper()
	require.NoError(n.t, n.srv.Engine().Checkpoint(context.Background()))
}

// Unload takes all clean keys out of memory.
func (n *Node) Unload() { n.srv.Engine().UnloadAll() }

// Expire removes the keys whose time has come, as the server does by itself in its own time.
func (n *Node) Expire() { n.srv.Engine().Tick(context.Background()) }

// Crash cuts the power and starts again on what had reached the disk. Clients have to dial again.
func (n *Node) Crash() {
	n.t.Helper()
	survived := n.fs.CrashClone(vfs.CrashCloneCfg{})
	n.stop() // what it still writes goes to the file system of before
	n.fs = survived
	n.start()
}

// Recover stops in order and starts again. Clients have to dial again.
func (n *Node) Recover() {
	n.t.Helper()
	n.stop()
	n.start()
}

// Verb runs a verb of golden scripts. restarted says that clients have to dial again.
func (n *Node) Verb(text string) (restarted bool, err error) {
	verb, arg, _ := strings.Cut(text, " ")
	if verb == "time" {
		d, err := time.ParseDuration(strings.TrimPrefix(arg, "+"))
		if err != nil {
			return false, err
		}
		n.Advance(d)
		return false, nil
	}
	if arg != "" {
		return false, fmt.Errorf("servertest: the verb %s takes no argument", verb)
	}
	switch verb {
	case "checkpoint":
		n.Checkpoint()
	case "unload":
		n.Unload()
	case "crash":
		n.Crash()
	case "recover":
		n.Recover()
	default:
		return false, fmt.Errorf("servertest: unknown verb %q", verb)
	}
	return verb == "crash" || verb == "recover", nil
}
