package server

import (
	"context"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// A replica compares itself with the primary of its chain while writes go on: it finds nothing, then what was planted, and says
// so in INFO.
func TestVerifyInBackground(t *testing.T) {
	p := newPeer(t, holdfast(t, "--appendfsync", "everysec").Addr())
	r := newPeer(t, holdfast(t, "--appendfsync", "everysec").Addr())
	last := holdfast(t, "--appendfsync", "everysec", "--set-max-intset-entries", "3")
	c := newPeer(t, last.Addr())
	fill(p, "a")
	r.follow(p)
	c.follow(r)
	require.Equal(t, "-1", c.info("verify_last_offset"))
	rate := int64(1_000_000)
	pass := func(s *Server) { s.verifyPass(context.Background(), func() int64 { return rate }) }

	stop := sync.OnceFunc(writing(t, p))
	defer stop()
	pass(last)
	require.Equal(t, "", c.info("verify_last_error"))
	require.Equal(t, "1", c.info("verify_passes"))
	require.Equal(t, "0", c.info("verify_differences"))
	require.NotEqual(t, "0", c.info("verify_last_keys"))
	require.NotEqual(t, "-1", c.info("verify_last_offset"))

	require.Equal(t, "+OK\r\n", c.do("DEBUG", "PLANT", "HSET", "hash:a4", "f", "other"))
	require.Equal(t, "+OK\r\n", c.do("DEBUG", "PLANT", "DEL", "string:a3"))
	pass(last)
	stop()
	require.Equal(t, "2", c.info("verify_last_differences"))
	require.Equal(t, "2", c.info("verify_differences"))
	require.Equal(t, "0", c.info("verify_in_progress"))
	require.Len(t, last.verifying.last.Differences, 2)

	rate = 0
	pass(last)
	require.Equal(t, "2", c.info("verify_passes"), "turned off it does not come to an end")

	// A primary that has no marks is said so.
	x := redisPeer(t)
	single := holdfast(t)
	s := newPeer(t, single.Addr())
	s.follow(x)
	pass(single)
	require.Contains(t, s.info("verify_last_error"), "is no Holdfast")
}
