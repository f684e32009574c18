package servertest_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
)

// goRedis is what an application does with go-redis, in RESP2 and RESP3.
func goRedis(t *testing.T, addr string) {
	for _, protocol := range []int{2, 3} {
		t.Run(fmt.Sprintf("proto=%d", protocol), func(t *testing.T) {
			c := redis.NewClient(&redis.Options{Addr: addr, Protocol: protocol, ClientName: "go", MaxRetries: -1})
			t.Cleanup(func() { require.NoError(t, c.Close()) })
			require.NoError(t, c.FlushAll(t.Context()).Err())
			t.Run("strings", func(t *testing.T) { goRedisStrings(t, c) })
			t.Run("collections", func(t *testing.T) { goRedisCollections(t, c) })
			t.Run("scan", func(t *testing.T) { goRedisScan(t, c) })
			t.Run("transactions", func(t *testing.T) { goRedisTransactions(t, c) })
			t.Run("blocking", func(t *testing.T) { goRedisBlocking(t, c) })
			t.Run("pubsub", func(t *testing.T) { goRedisPubSub(t, c) })
			t.Run("server", func(t *testing.T) { goRedisServer(t, c) })
		})
	}
}

// must returns v, if there was no error.
func must[T any](t *testing.T, v T, err error) T {
	t.Helper()
	require.NoError(t, err)
	return v
}

func goRedisStrings(t *testing.T, c *redis.Client) {
	ctx := t.Context()
	require.NoError(t, c.Set(ctx, "s", "v", time.Hour).Err())
	ttl, err := c.TTL(ctx, "s").Result()
	require.Greater(t, must(t, ttl, err), 59*time.Minute)
	require.ErrorIs(t, c.Get(ctx, "absent").Err(), redis.Nil)
	ok, err := c.SetNX(ctx, "s", "w", 0).Result()
	require.False(t, must(t, ok, err))
	old, err := c.GetSet(ctx, "s", "w").Result()
	require.Equal(t, "v", must(t, old, err))
	n, err := c.IncrBy(ctx, "n", 42).Result()
	require.EqualValues(t, 42, must(t, n, err))
	f, err := c.IncrByFloat(ctx, "f", 1.5).Result()
	require.Equal(t, 1.5, must(t, f, err))
	vals, err := c.MGet(ctx, "n", "absent", "s").Result()
	require.Equal(t, []any{"42", nil, "w"}, must(t, vals, err))
	require.ErrorContains(t, c.Incr(ctx, "s").Err(), "ERR value is not an integer or out of range")
	blob := string(slices.Repeat([]byte{0, '\r', '\n', 0xff}, 50_000))
	require.NoError(t, c.Set(ctx, "blob", blob, 0).Err())
	got, err := c.Get(ctx, "blob").Result()
	require.True(t, must(t, got, err) == blob)
}

func goRedisCollections(t *testing.T, c *redis.Client) {
	ctx := t.Context()
	require.NoError(t, c.RPush(ctx, "l", 1, 2, 3, 4).Err())
	l, err := c.LRange(ctx, "l", 1, -2).Result()
	require.Equal(t, []string{"2", "3"}, must(t, l, err))
	moved, err := c.LMove(ctx, "l", "l2", "right", "left").Result()
	require.Equal(t, "4", must(t, moved, err))

	require.NoError(t, c.HSet(ctx, "h", map[string]any{"name": "ann", "age": 33}).Err())
	var person struct {
		Name string `redis:"name"`
		Age  int    `redis:"age"`
	}
	require.NoError(t, c.HGetAll(ctx, "h").Scan(&person))
	require.Equal(t, "ann", person.Name)
	require.Equal(t, 33, person.Age)

	require.NoError(t, c.SAdd(ctx, "t", "a", "b", "c").Err())
	require.NoError(t, c.SAdd(ctx, "u", "b").Err())
	diff, err := c.SDiff(ctx, "t", "u").Result()
	require.ElementsMatch(t, []string{"a", "c"}, must(t, diff, err))
	in, err := c.SMIsMember(ctx, "t", "a", "x").Result()
	require.Equal(t, []bool{true, false}, must(t, in, err))

	require.NoError(t, c.ZAdd(ctx, "z", redis.Z{Score: 1, Member: "a"}, redis.Z{Score: 2.5, Member: "b"}, redis.Z{Score: -3, Member: "c"}).Err())
	z, err := c.ZRangeArgsWithScores(ctx, redis.ZRangeArgs{Key: "z", Start: 0, Stop: "+inf", ByScore: true}).Result()
	require.Equal(t, []redis.Z{{Score: 1, Member: "a"}, {Score: 2.5, Member: "b"}}, must(t, z, err))
	sum, err := c.ZIncrBy(ctx, "z", 10, "c").Result()
	require.Equal(t, 7.0, must(t, sum, err))
	top, err := c.ZPopMax(ctx, "z").Result()
	require.Equal(t, []redis.Z{{Score: 7, Member: "c"}}, must(t, top, err))
	require.ErrorContains(t, c.LPush(ctx, "h", "x").Err(), "WRONGTYPE")
}

func goRedisScan(t *testing.T, c *redis.Client) {
	ctx := t.Context()
	const keys = 1500
	_, err := c.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i := range keys {
			p.Set(ctx, fmt.Sprintf("scan:%d", i), i, 0)
		}
		return nil
	})
	require.NoError(t, err)
	seen := map[string]bool{}
	it := c.Scan(ctx, 0, "scan:*", 100).Iterator()
	for it.Next(ctx) {
		seen[it.Val()] = true
	}
	require.NoError(t, it.Err())
	require.Len(t, seen, keys)
}

func goRedisTransactions(t *testing.T, c *redis.Client) {
	ctx := t.Context()
	cmds, err := c.TxPipelined(ctx, func(p redis.Pipeliner) error {
		p.Set(ctx, "tx", 1, 0)
		p.Incr(ctx, "tx")
		return nil
	})
	require.NoError(t, err)
	require.EqualValues(t, 2, cmds[1].(*redis.IntCmd).Val())

	// Optimistic increments by 8 clients at once: none may be lost.
	const clients, each = 8, 25
	require.NoError(t, c.Del(ctx, "counter").Err())
	var wg sync.WaitGroup
	errs := make([]error, clients)
	for i := range clients {
		wg.Go(func() {
			for range each {
				if errs[i] = incrementWatched(ctx, c, "counter"); errs[i] != nil {
					return
				}
			}
		})
	}
	wg.Wait()
	require.NoError(t, errors.Join(errs...))
	n, err := c.Get(ctx, "counter").Int()
	require.Equal(t, clients*each, must(t, n, err))
}

// incrementWatched increments with WATCH, GET and EXEC until nobody came between.
func incrementWatched(ctx context.Context, c *redis.Client, key string) error {
	for {
		err := c.Watch(ctx, func(tx *redis.Tx) error {
			n, err := tx.Get(ctx, key).Int()
			if err != nil && !errors.Is(err, redis.Nil) {
				return err
			}
			_, err = tx.TxPipelined(ctx, func(p redis.Pipeliner) error { return p.Set(ctx, key, n+1, 0).Err() })
			return err
		}, key)
		if !errors.Is(err, redis.TxFailedErr) {
			return err
		}
	}
}

func goRedisBlocking(t *testing.T, c *redis.Client) {
	ctx := t.Context()
	got := make(chan []string, 1)
	failed := make(chan error, 1)
	go func() {
		v, err := c.BLPop(ctx, 30*time.Second, "q1", "q2").Result()
		if err != nil {
			failed <- err
			return
		}
		got <- v
	}()
	require.NoError(t, c.RPush(ctx, "q2", "job").Err())
	select {
	case v := <-got:
		require.Equal(t, []string{"q2", "job"}, v)
	case err := <-failed:
		require.NoError(t, err)
	}
	require.ErrorIs(t, c.Do(ctx, "BZPOPMIN", "nothing", "0.01").Err(), redis.Nil)
}

func goRedisServer(t *testing.T, c *redis.Client) {
	ctx := t.Context()
	require.NoError(t, c.Ping(ctx).Err())
	name, err := c.ClientGetName(ctx).Result()
	require.Equal(t, "go", must(t, name, err))
	conf, err := c.ConfigGet(ctx, "maxmemory-policy").Result()
	require.Equal(t, map[string]string{"maxmemory-policy": "noeviction"}, must(t, conf, err))
	info, err := c.Info(ctx, "server").Result()
	require.Contains(t, must(t, info, err), "redis_version:7.")
	commands, err := c.Command(ctx).Result()
	require.Contains(t, must(t, commands, err), "zadd")
	size, err := c.DBSize(ctx).Result()
	require.Greater(t, must(t, size, err), int64(1000))
	require.ErrorContains(t, c.Do(ctx, "NOSUCH").Err(), "ERR unknown command 'NOSUCH'")
	dump, err := c.Dump(ctx, "z").Result()
	require.NoError(t, err)
	require.NoError(t, c.RestoreReplace(ctx, "z2", 0, dump).Err())
	z, err := c.ZRange(ctx, "z2", 0, -1).Result()
	require.Equal(t, []string{"a", "b"}, must(t, z, err))
}
