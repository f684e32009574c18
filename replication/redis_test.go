package replication

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-db/holdfast/wal"
	"github.com/stretchr/testify/require"
)

// redisServer is a real one.
type redisServer struct {
	t    testing.TB
	port int
	conn net.Conn
	in   *bufio.Reader
}

func startRedis(t testing.TB, args ...string) *redisServer {
	bin, err := exec.LookPath("redis-server")
	if err != nil {
		t.Skip("redis-server is not installed")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	port := l.Addr().(*net.TCPAddr).Port
	require.NoError(t, l.Close())
	c := exec.Command(bin, append([]string{"--port", strconv.Itoa(port), "--bind", "127.0.0.1", "--dir", t.TempDir(), "--save", "", "--appendonly", "no",
		"--repl-ping-replica-period", "1", "--repl-diskless-sync-delay", "0", "--daemonize", "no"}, args...)...)
	require.NoError(t, c.Start())
	t.Cleanup(func() {
		_ = c.Process.Kill()
		_ = c.Wait()
	})
	r := &redisServer{t: t, port: port}
	await(t, "redis-server listens", func() bool {
		r.conn, err = net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		return err == nil
	})
	t.Cleanup(func() { r.conn.Close() })
	r.in = bufio.NewReader(r.conn)
	return r
}

// do sends a command and returns its reply: a line, or a bulk's text.
func (r *redisServer) do(args ...string) string {
	r.t.Helper()
	require.NoError(r.t, r.conn.SetDeadline(time.Now().Add(patience)))
	_, err := io.WriteString(r.conn, cmd(args...))
	require.NoError(r.t, err)
	line, err := r.in.ReadString('\n')
	require.NoError(r.t, err)
	line = strings.TrimRight(line, "\r\n")
	n, err := strconv.Atoi(strings.TrimPrefix(line, "$"))
	if line[0] != '$' || err != nil || n < 0 {
		return line
	}
	b := make([]byte, n+2)
	_, err = io.ReadFull(r.in, b)
	require.NoError(r.t, err)
	return string(b[:n])
}

// info returns a field of INFO.
func (r *redisServer) info(field string) string {
	for l := range strings.Lines(r.do("INFO")) {
		if v, ok := strings.CutPrefix(strings.TrimRight(l, "\r\n"), field+":"); ok {
			return v
		}
	}
	return ""
}

// A stock redis-server follows our Primary: a full sync in each framing, the stream, WAIT, a cut, a new id.
func TestRedisFollowsUs(t *testing.T) {
	for _, spooled := range []bool{false, true} {
		t.Run(fmt.Sprintf("spooled=%v", spooled), func(t *testing.T) {
			f := newFake(t, id('a'))
			s := newPeer(t, f, SystemClock{}, PrimaryConfig{Spooled: spooled, PingPeriod: time.Second})
			l, err := net.Listen("tcp", "127.0.0.1:0")
			require.NoError(t, err)
			t.Cleanup(func() { l.Close() })
			go func() {
				for {
					c, err := l.Accept()
					if err != nil {
						return
					}
					s.serve(c)
				}
			}()
			for i := range 1000 {
				f.set(fmt.Sprint("key:", i), strings.Repeat("v", i))
			}
			r := startRedis(t, "--replicaof", "127.0.0.1 "+strconv.Itoa(l.Addr().(*net.TCPAddr).Port))
			await(t, "the link is up", func() bool { return r.info("master_link_status") == "up" })
			require.Equal(t, ":1000", r.do("DBSIZE"))
			require.Equal(t, strings.Repeat("v", 999), r.do("GET", "key:999"))
			require.Equal(t, id('a'), r.info("master_replid"))

			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			off := f.set("k", "v")
			require.Equal(t, 1, s.p.WaitAcks(ctx, off, 1, false))
			require.Equal(t, "v", r.do("GET", "k"))
			require.Equal(t, r.port, s.p.Replicas()[0].Port)

			// Cut, and written to meanwhile; then a new id as after a restart.
			for i, next := range []string{"", id('b'), id('c')} {
				if next != "" {
					f.sync()
					// PINGs are appended by the ticker: quiet, since BeginID wants nobody to append.
					s.p.SetQuiet(true)
					f.mu.Lock()
					require.NoError(t, f.log.BeginID(next))
					f.mu.Unlock()
					s.p.SetQuiet(false)
				}
				s.p.Disconnect()
				off = f.set("k", fmt.Sprint(i))
				t.Cleanup(func() {
					if t.Failed() {
						t.Logf("%+v, end %d, asked %q\n%s", s.p.Replicas(), f.log.End(), s.requests(), r.do("INFO", "replication"))
					}
				})
				await(t, "it has come back", func() bool { return s.p.CountAcks(off, false) == 1 })
				require.Equal(t, fmt.Sprint(i), r.do("GET", "k"))
				if next != "" {
					require.Equal(t, next, r.info("master_replid"))
				}
			}
			st := s.p.Stats()
			require.EqualValues(t, 1, st.SyncFull)
			require.EqualValues(t, 3, st.SyncPartialOK)
			await(t, "its offset is ours", func() bool { return r.info("slave_repl_offset") == fmt.Sprint(int64(f.log.End())) })
		})
	}
}

// Our Replica follows a stock redis-server: full syncs, the stream byte for byte, WAIT over there, a cut, a restart of ours.
func TestWeFollowRedis(t *testing.T) {
	for _, diskless := range []string{"yes", "no"} {
		t.Run("repl-diskless-sync="+diskless, func(t *testing.T) {
			r := startRedis(t, "--repl-diskless-sync", diskless)
			for i := range 200 {
				require.Equal(t, "+OK", r.do("SET", fmt.Sprint("key:", i), strings.Repeat("v", i)))
			}
			f := newFake(t, id('0'))
			f.replica = true
			d := &net.Dialer{}
			us := NewReplica(ReplicaOptions{Sink: f, Config: ReplicaConfig{Port: 7777}, Dial: func(ctx context.Context, addr string) (net.Conn, error) { return d.DialContext(ctx, "tcp", addr) }})
			t.Cleanup(us.Stop)
			us.Start(Target{Host: "127.0.0.1", Port: r.port})
			await(t, "connected", func() bool { return us.State() == Connected })
			require.Len(t, f.snapshotOf(), 200)
			require.Equal(t, strings.Repeat("v", 199), f.snapshotOf()["key:199"])
			begin := f.log.First()

			for round := range 3 {
				r.do("SET", "k", fmt.Sprint(round))
				require.Equal(t, "+OK", r.do("MULTI"))
				r.do("SET", "a", fmt.Sprint(round))
				r.do("SET", "b", fmt.Sprint(round))
				r.do("EXEC")
				for range 2 { // the array's elements
					_, err := r.in.ReadString('\n')
					require.NoError(t, err)
				}
				await(t, "WAIT counts us", func() bool { return r.do("WAIT", "1", "0") == ":1" })
				got := f.snapshotOf()
				require.Equal(t, []string{fmt.Sprint(round), fmt.Sprint(round), fmt.Sprint(round)}, []string{got["k"], got["a"], got["b"]})
				_, end := f.Position()
				require.Contains(t, r.info("slave0"), "port=7777,state=online")
				us.Stop()
				require.LessOrEqual(t, int64(end), int64(f.log.End()))
				r.do("SET", "away", fmt.Sprint(round))
				us.Start(Target{Host: "127.0.0.1", Port: r.port})
				await(t, "what was written meanwhile", func() bool { return f.snapshotOf()["away"] == fmt.Sprint(round) })
			}
			require.Equal(t, "1", r.info("sync_full"))
			require.Equal(t, "3", r.info("sync_partial_ok"))
			gotID, _ := f.Position()
			require.Equal(t, r.info("master_replid"), gotID)
			f.sync()
			r.do("WAIT", "1", "0")
			// R1: what we have is what its offsets say; Redis tells no bytes, but a whole log of records that ends where it does.
			for data := f.bytesOf(begin); len(data) > 0; {
				_, n, err := wal.ReadRecord(data)
				require.NoError(t, err)
				require.NotZero(t, n)
				data = data[n:]
			}
		})
	}
}
