package bench

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"
)

// sentinelName is what the sentinels call the primary that they watch.
const sentinelName = "bench"

// sentinel is a running redis-sentinel.
type sentinel struct {
	addr string
	cmd  *exec.Cmd
	done chan struct{}
	conn *Client // nil = to be dialled
}

// sentinels are those that watch one primary.
type sentinels []*sentinel

// startSentinels starts n unmodified redis-sentinels, which agree by majority, and waits until all know each other and the replicas.
func startSentinels(ctx context.Context, top string, primary string, n, replicas int, downAfter, failoverTimeout time.Duration) (s sentinels, err error) {
	defer func() {
		if err != nil {
			err = errors.Join(err, s.kill())
		}
	}()
	host, port, err := net.SplitHostPort(primary)
	if err != nil {
		return nil, err
	}
	for i := range n {
		addr, err := FreeAddr()
		if err != nil {
			return s, err
		}
		_, own, err := net.SplitHostPort(addr)
		if err != nil {
			return s, err
		}
		dir := filepath.Join(top, fmt.Sprintf("sentinel-%d", i+1))
		if err := os.Mkdir(dir, 0o755); err != nil {
			return s, err
		}
		conf := filepath.Join(dir, "sentinel.conf")
		text := fmt.Sprintf("port %s\nbind 127.0.0.1\ndir %s\nsentinel monitor %s %s %s %d\nsentinel down-after-milliseconds %s %d\nsentinel failover-timeout %s %d\nsentinel parallel-syncs %s 1\n",
			own, dir, sentinelName, host, port, n/2+1, sentinelName, downAfter.Milliseconds(), sentinelName, failoverTimeout.Milliseconds(), sentinelName)
		if err := os.WriteFile(conf, []byte(text), 0o644); err != nil {
			return s, err
		}
		log, err := os.Create(dir + ".log")
		if err != nil {
			return s, err
		}
		cmd := exec.Command("redis-sentinel", conf)
		cmd.Stdout, cmd.Stderr = log, log
		err = cmd.Start()
		log.Close() // the child has its own descriptor
		if err != nil {
			return s, fmt.Errorf("start redis-sentinel: %w", err)
		}
		x := &sentinel{addr: addr, cmd: cmd, done: make(chan struct{})}
		go func() {
			_ = cmd.Wait() // how it ended says nothing: we kill it
			close(x.done)
		}()
		s = append(s, x)
	}
	return s, s.awaitKnown(ctx, replicas)
}

// awaitKnown waits until each sentinel knows the others and the replicas, and finds nobody down.
func (s sentinels) awaitKnown(ctx context.Context, replicas int) error {
	for _, x := range s {
		var seen map[string]string
		err := until(ctx, time.Minute, "the sentinels to know each other and the replicas", func() (bool, error) {
			var err error
			if seen, err = x.primary(); err != nil {
				return false, err
			}
			return seen["num-other-sentinels"] == strconv.Itoa(len(s)-1) && seen["num-slaves"] == strconv.Itoa(replicas) && seen["flags"] == "master", nil
		})
		if err != nil {
			return fmt.Errorf("%w: knows %s others and %s replicas, flags %s", err, seen["num-other-sentinels"], seen["num-slaves"], seen["flags"])
		}
	}
	return nil
}

// kill ends them all.
func (s sentinels) kill() error {
	var err error
	for _, x := range s {
		if x.conn != nil {
			x.conn.Close()
		}
		if kerr := x.cmd.Process.Kill(); kerr != nil && !errors.Is(kerr, os.ErrProcessDone) {
			err = errors.Join(err, kerr)
			continue
		}
		<-x.done
	}
	return err
}

func (x *sentinel) do(args ...string) (Reply, error) {
	if x.conn == nil {
		c, err := Dial(x.addr)
		if err != nil {
			return Reply{}, err
		}
		x.conn = c
	}
	r, err := x.conn.Do(args...)
	if err != nil && r.Kind != '-' {
		x.conn.Close()
		x.conn = nil
	}
	return r, err
}

// primary is what the sentinel knows of the primary, by name.
func (x *sentinel) primary() (map[string]string, error) {
	r, err := x.do("SENTINEL", "MASTER", sentinelName)
	if err != nil {
		return nil, err
	}
	m := map[string]string{}
	for i := 0; i+1 < len(r.Elems); i += 2 {
		m[r.Elems[i].String()] = r.Elems[i+1].String()
	}
	return m, nil
}

// primaryAddr is where a client that asks the sentinel would go.
func (x *sentinel) primaryAddr() (string, error) {
	r, err := x.do("SENTINEL", "GET-MASTER-ADDR-BY-NAME", sentinelName)
	if err != nil {
		return "", err
	}
	if len(r.Elems) != 2 {
		return "", fmt.Errorf("the sentinel knows no address: %s", r)
	}
	return net.JoinHostPort(r.Elems[0].String(), r.Elems[1].String()), nil
}

// agreed returns the address that all sentinels name, "" while they differ.
func (s sentinels) agreed() (addr string, err error) {
	for i, x := range s {
		a, err := x.primaryAddr()
		if err != nil {
			return "", err
		}
		if i > 0 && a != addr {
			return "", nil
		}
		addr = a
	}
	return addr, nil
}

// awaitSwitch waits until a sentinel names another address than old, and returns it.
func (s sentinels) awaitSwitch(ctx context.Context, old string, limit time.Duration) (addr string, err error) {
	err = until(ctx, limit, "the sentinels to name another primary", func() (bool, error) {
		for _, x := range s {
			a, err := x.primaryAddr()
			if err != nil {
				return false, err
			}
			if a != old {
				addr = a
				return true, nil
			}
		}
		return false, nil
	})
	return addr, err
}
