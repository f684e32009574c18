package server

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"testing"

	"github.com/stretchr/testify/require"
)

// BenchmarkSession measures the whole path of small commands over the loopback interface: one client, a pipeline of 16.
func BenchmarkSession(b *testing.B) {
	for _, policy := range []string{"always", "everysec"} {
		for _, cmd := range []string{"ping", "set", "get"} {
			b.Run(fmt.Sprintf("cmd=%s/fsync=%s/pipeline=16", cmd, policy), func(b *testing.B) {
				s := holdfast(b, "--appendfsync", policy)
				c, err := net.Dial("tcp", s.Addr())
				require.NoError(b, err)
				defer c.Close()
				const depth = 16
				var req bytes.Buffer
				replyLen := 0
				for i := range depth {
					switch cmd {
					case "ping":
						req.WriteString("*1\r\n$4\r\nPING\r\n")
						replyLen += len("+PONG\r\n")
					case "set":
						fmt.Fprintf(&req, "*3\r\n$3\r\nSET\r\n$6\r\nkey:%02d\r\n$8\r\nvalue-00\r\n", i)
						replyLen += len("+OK\r\n")
					case "get":
						fmt.Fprintf(&req, "*2\r\n$3\r\nGET\r\n$6\r\nkey:%02d\r\n", i)
						replyLen += len("$-1\r\n")
					}
				}
				buf := make([]byte, replyLen)
				b.ReportAllocs()
				for b.Loop() {
					if _, err := c.Write(req.Bytes()); err != nil {
						b.Fatal(err)
					}
					if _, err := io.ReadFull(c, buf); err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/depth, "ns/cmd")
			})
		}
	}
}
