package server

import (
	"context"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

var replID = regexp.MustCompile(`master_replid:([0-9a-f]{40})`)

// A server that shuts down waits for a replica that is in step, but not for one that has gone meanwhile; and what it waits
// leaves time for the last checkpoint.
func TestShutdownWaitsForReplicas(t *testing.T) {
	for _, goes := range []bool{true, false} {
		t.Run(fmt.Sprintf("goes=%v", goes), func(t *testing.T) {
			cfg := NewConfig()
			require.NoError(t, cfg.LoadFlags([]string{"--bind", "127.0.0.1", "--dir", t.TempDir()}))
			srv, err := Start(context.Background(), Options{Config: cfg, AnyPort: true})
			require.NoError(t, err)
			w, r := dial(t, srv.Addr()), dial(t, srv.Addr())
			require.Equal(t, "+OK\r\n", w.do("SET", "k", "1"))
			at := offset(t, w)
			id := replID.FindStringSubmatch(w.do("INFO", "replication"))[1]
			require.Equal(t, "+OK\r\n", r.do("REPLCONF", "capa", "psync2"))
			require.Contains(t, r.do("PSYNC", id, fmt.Sprint(at+1)), "+CONTINUE")
			r.send("REPLCONF", "ACK", fmt.Sprint(at))
			eventually(t, "the replica is in step", func() bool { return srv.replicasInStep() == 1 })
			require.Equal(t, "+OK\r\n", w.do("SET", "k", "2"))

			limit := 2 * time.Second
			if goes {
				limit = time.Minute
			}
			ctx, cancel := context.WithTimeout(context.Background(), limit)
			defer cancel()
			closed := make(chan error, 1)
			start := time.Now()
			go func() { closed <- srv.Close(ctx) }()
			if goes {
				for got := ""; !strings.Contains(got, "GETACK"); { // it waits
					got = r.read()
					require.NotEmpty(t, got)
				}
				require.NoError(t, r.c.Close())
			}
			require.NoError(t, <-closed)
			if goes {
				require.Less(t, time.Since(start), limit/2, "it waited for a replica that had gone")
			} else {
				require.GreaterOrEqual(t, time.Since(start), limit/2, "it did not wait")
			}
		})
	}
}
