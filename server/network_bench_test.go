package server

import (
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
)

// pingHandler answers every command with +PONG: what is left is the network layer.
type pingHandler struct{}

func (pingHandler) OnData(c *Conn) bool {
	for {
		args, err := c.Guard().Next()
		if err != nil {
			c.Out().Error(err.Error())
			c.CloseAfterFlush()
			return false
		}
		if args == nil {
			return false
		}
		c.Out().Simple("PONG")
	}
}
func (pingHandler) Continue(*Conn)       {}
func (pingHandler) OnClose(*Conn, error) {}

func startPingNet(tb testing.TB) *Network {
	n := NewNetwork(NetworkConfig{
		Listen: ListenConfig{Bind: []string{"127.0.0.1"}, Port: -1},
		Accept: func(*Conn) connHandler { return pingHandler{} },
	})
	if err := n.Start(context.Background()); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := n.Close(context.Background()); err != nil {
			tb.Error(err)
		}
	})
	return n
}

// BenchmarkNetwork measures the server together with a client in the same process.
func BenchmarkNetwork(b *testing.B) {
	for _, pipeline := range []int{1, 16} {
		b.Run(fmt.Sprintf("op=ping/clients=50/pipeline=%d", pipeline), func(b *testing.B) {
			n := startPingNet(b)
			req := []byte(strings.Repeat("*1\r\n$4\r\nPING\r\n", pipeline))
			const clients = 50
			var wg sync.WaitGroup
			b.ResetTimer()
			for i := range clients {
				ops := b.N / clients
				if i < b.N%clients {
					ops++
				}
				wg.Go(func() {
					c, err := net.Dial("tcp", n.Addrs()[0].String())
					if err != nil {
						b.Error(err)
						return
					}
					defer c.Close()
					buf := make([]byte, len("+PONG\r\n")*pipeline)
					for range ops {
						if _, err := c.Write(req); err != nil {
							b.Error(err)
							return
						}
						if _, err := io.ReadFull(c, buf); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			wg.Wait()
		})
	}
}
