package servertest_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
)

// goRedisPubSub subscribes and publishes as applications do: one connection listens, others publish, and a connection that
// is lost is made again with its subscriptions.
func goRedisPubSub(t *testing.T, c *redis.Client) {
	ctx := t.Context()
	receive := func(p *redis.PubSub) any {
		t.Helper()
		m, err := p.ReceiveTimeout(ctx, 30*time.Second)
		return must(t, m, err)
	}
	p := c.Subscribe(ctx, "a", "b")
	t.Cleanup(func() { require.NoError(t, p.Close()) })
	require.Equal(t, &redis.Subscription{Kind: "subscribe", Channel: "a", Count: 1}, receive(p))
	require.Equal(t, &redis.Subscription{Kind: "subscribe", Channel: "b", Count: 2}, receive(p))
	require.NoError(t, p.PSubscribe(ctx, "a*"))
	require.Equal(t, &redis.Subscription{Kind: "psubscribe", Channel: "a*", Count: 3}, receive(p))
	n, err := c.Publish(ctx, "a", "hello").Result()
	require.EqualValues(t, 2, must(t, n, err))
	require.Equal(t, &redis.Message{Channel: "a", Payload: "hello"}, receive(p))
	require.Equal(t, &redis.Message{Channel: "a", Pattern: "a*", Payload: "hello"}, receive(p))
	require.NoError(t, p.Ping(ctx, "there"))
	require.Equal(t, &redis.Pong{Payload: "there"}, receive(p))

	s := c.SSubscribe(ctx, "shard")
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	require.Equal(t, &redis.Subscription{Kind: "ssubscribe", Channel: "shard", Count: 1}, receive(s))
	n, err = c.SPublish(ctx, "shard", "x").Result()
	require.EqualValues(t, 1, must(t, n, err))
	require.Equal(t, &redis.Message{Channel: "shard", Payload: "x"}, receive(s))

	channels, err := c.PubSubChannels(ctx, "*").Result()
	require.ElementsMatch(t, []string{"a", "b"}, must(t, channels, err))
	subs, err := c.PubSubNumSub(ctx, "a", "none").Result()
	require.Equal(t, map[string]int64{"a": 1, "none": 0}, must(t, subs, err))
	pats, err := c.PubSubNumPat(ctx).Result()
	require.EqualValues(t, 1, must(t, pats, err))

	// Through a channel of Go, and a pipeline.
	require.NoError(t, p.PUnsubscribe(ctx))
	require.Equal(t, &redis.Subscription{Kind: "punsubscribe", Channel: "a*", Count: 2}, receive(p))
	const many = 500
	_, err = c.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		for i := range many {
			pipe.Publish(ctx, "b", i)
		}
		return nil
	})
	require.NoError(t, err)
	ch := p.Channel(redis.WithChannelSize(many))
	for i := range many {
		require.Equal(t, &redis.Message{Channel: "b", Payload: fmt.Sprint(i)}, <-ch)
	}

	killed, err := c.Do(ctx, "CLIENT", "KILL", "TYPE", "pubsub").Int64()
	require.EqualValues(t, 2, must(t, killed, err))
	for { // until it has subscribed again
		n, err := c.Publish(ctx, "b", "back").Result()
		if must(t, n, err) == 1 {
			break
		}
	}
	require.Equal(t, "back", (<-ch).Payload)
}
