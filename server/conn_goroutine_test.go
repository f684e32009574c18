package server

import (
	"net"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"
)

// lateConn is a connection whose writes return long after the peer has the bytes.
type lateConn struct {
	net.Conn
	returns chan struct{}
}

func (c *lateConn) Write(p []byte) (int, error) {
	<-c.returns
	return len(p), nil
}

// A peer may answer a reply before the write of the reply has returned: PSYNC after REPLCONF by TLS. Its output is then not
// pending, only not yet counted.
func TestSettle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &Network{}
		n.goGates.init()
		n.SetOutputLimits([numClasses]OutputLimit{})
		nc := &lateConn{returns: make(chan struct{})}
		c := &Conn{net: n}
		g := &goConn{c: c, nc: nc, kick: make(chan struct{}, 1), wrote: make(chan struct{})}
		g.left.L = &g.mu
		c.driver = g
		c.pend = []byte("+OK\r\n")
		c.noteOutput(5)
		go g.write()
		g.notify(c)
		synctest.Wait()
		settled := make(chan struct{})
		go func() {
			c.Settle()
			close(settled)
		}()
		synctest.Wait()
		select {
		case <-settled:
			t.Fatal("a write is under way")
		default:
		}
		close(nc.returns)
		<-settled
		used, _ := c.OutputPending()
		require.Zero(t, used)

		c.out.Simple("held")
		c.Hold(7)
		require.NoError(t, g.flush())
		c.Settle() // what a gate holds is not on its way: PSYNC is refused

		g.mu.Lock()
		g.ending = true
		c.pendHolds = nil
		g.mu.Unlock()
		g.notify(c)
		<-g.wrote
	})
}
