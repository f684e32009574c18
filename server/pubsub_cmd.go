package server

import (
	"fmt"

	"github.com/holdfast-db/holdfast/server/command"
	"github.com/holdfast-db/holdfast/server/engine"
	"github.com/holdfast-db/holdfast/server/pubsub"
	"github.com/holdfast-db/holdfast/server/reply"
)

// Publish and subscribe.
//
// A message reaches another connection by Conn.WriteAsyncAfter. Its place among the replies is that of the moment when it was
// published: what comes during a turn follows what has been written in it, a session with subscriptions takes what has come
// before each command (Conn.TakeAsync), and it changes its subscriptions under the hub's lock. So no message comes before the
// confirmation of its subscription, none after that of its end, and once PUBLISH is answered every subscriber has the message
// before whatever it asks next.
//
// A message leaves when all that had been executed when it was published is durable (A1), as in Redis, which syncs its file
// before it writes to any client. It does not wait for its own record in the stream.
//
// Lock order: the executor's lock before the hub's.

// whileSubscribed tells whether a client that speaks RESP2 may use a command while it has subscriptions.
func whileSubscribed(spec *command.Spec) bool {
	switch spec.FullName {
	case "subscribe", "psubscribe", "ssubscribe", "unsubscribe", "punsubscribe", "sunsubscribe", "ping", "quit", "reset":
		return true
	}
	return false
}

// subscriptionKind tells which subscriptions a command is about.
func subscriptionKind(spec *command.Spec) pubsub.Kind {
	switch spec.Name {
	case "psubscribe", "punsubscribe":
		return pubsub.Pattern
	case "ssubscribe", "sunsubscribe", "spublish", "shardchannels", "shardnumsub":
		return pubsub.Shard
	}
	return pubsub.Channel
}

func (s *session) cmdSubscribe(spec *command.Spec, args [][]byte) outcome {
	k := subscriptionKind(spec)
	if k == pubsub.Shard && s.multi.active {
		s.conn.Out().Error(reply.SSubscribeDenyBlocking)
		return done
	}
	s.srv.hub.Subscribe(s.sub, k, args[1:], s.takeMessages, func(name []byte) { s.confirm(spec.Name, k, name) })
	s.pubsub = true
	s.setClass()
	return done
}

func (s *session) cmdUnsubscribe(spec *command.Spec, args [][]byte) outcome {
	k := subscriptionKind(spec)
	var names [][]byte // nil: all
	if len(args) > 1 {
		names = args[1:]
	}
	told := false
	s.srv.hub.Unsubscribe(s.sub, k, names, s.takeMessages, func(name []byte) {
		s.confirm(spec.Name, k, name)
		told = true
	})
	if !told {
		s.confirm(spec.Name, k, nil)
	}
	s.subscriptionsEnded()
	return done
}

// leavePubSub ends all subscriptions, and tells nothing of it.
func (s *session) leavePubSub() {
	if s.pubsub {
		s.srv.hub.Leave(s.sub, s.takeMessages)
		s.subscriptionsEnded()
	}
}

// subscriptionsEnded makes the client an ordinary one if it has no subscriptions left.
func (s *session) subscriptionsEnded() {
	if s.pubsub && s.sub.Total() == 0 {
		s.pubsub = false
		s.setClass()
	}
}

// setClass chooses the limits of output: those of monitors are replicas'.
func (s *session) setClass() {
	switch {
	case s.pubsub:
		s.conn.SetClass(ClassPubSub)
	case s.monitor:
		s.conn.SetClass(ClassReplica)
	default:
		s.conn.SetClass(ClassNormal)
	}
}

// takeMessages gives the messages that have come their place before what is written next. Within a transaction they have to
// wait: there is the array of its replies.
func (s *session) takeMessages() {
	if !s.multi.active {
		s.conn.TakeAsync()
	}
}

// confirm tells the client of a subscription or of its end, with how many there are now; nil stands for no name.
func (s *session) confirm(what string, k pubsub.Kind, name []byte) {
	n := s.sub.Count(pubsub.Channel) + s.sub.Count(pubsub.Pattern)
	if k == pubsub.Shard {
		n = s.sub.Count(pubsub.Shard)
	}
	s.push(func(w *reply.Writer) {
		w.Push(3)
		w.BulkString(what)
		if name == nil {
			w.Null()
		} else {
			w.Bulk(name)
		}
		w.Int(int64(n))
	})
}

// push writes what is no reply, so that CLIENT REPLY does not silence it.
func (s *session) push(write func(*reply.Writer)) {
	w := s.conn.Out()
	start := w.Len()
	write(w)
	if s.reply.off || s.reply.skipThis {
		s.reply.pushed = append(s.reply.pushed, w.Bytes()[start:]...)
	}
}

// Receive implements pubsub.Receiver.
func (s *session) Receive(m *pubsub.Message) {
	if m.From == s.sub { // this runs in the session's own goroutine: the message comes before the reply of PUBLISH
		s.takeMessages()
		s.push(func(w *reply.Writer) { writeMessage(w, m) })
		return
	}
	proto := int(s.proto.Load())
	wire := &m.Wire[proto-2]
	if len(*wire) == 0 {
		var w reply.Writer
		w.Swap(*wire)
		w.SetProto(proto)
		writeMessage(&w, m)
		*wire = w.Swap(nil)
	}
	s.conn.WriteAsyncAfter(*wire, m.After)
}

func writeMessage(w *reply.Writer, m *pubsub.Message) {
	switch m.Kind {
	case pubsub.Pattern:
		w.Push(4)
		w.BulkString("pmessage")
		w.BulkString(m.Pattern)
	case pubsub.Shard:
		w.Push(3)
		w.BulkString("smessage")
	default:
		w.Push(3)
		w.BulkString("message")
	}
	w.Bulk(m.Channel)
	w.Bulk(m.Payload)
}

// cmdPublish also takes what clients publish on a replica: its own subscribers hear it, and nobody else (R1).
func (s *session) cmdPublish(spec *command.Spec, args [][]byte) outcome {
	m := pubsub.Message{From: s.sub, Channel: args[1], Payload: args[2]}
	stream := s.srv.replicasAttached != nil && s.srv.replicasAttached()
	if stream {
		s.lock() // until the slice ends; within a transaction it is held
	}
	if s.locked {
		m.After = int64(s.eng.Told())
	} else {
		m.After = int64(s.eng.ToldOutside())
	}
	if stream {
		s.eng.AppendMessage(args...)
	}
	n := s.srv.hub.Publish(&m, subscriptionKind(spec) == pubsub.Shard)
	s.conn.Out().Int(int64(n))
	return done
}

// relay hands a message of the primary's, or an event of a key, to the subscribers of this server.
func (s *Server) relay(m *engine.Message) {
	s.hub.Publish(&pubsub.Message{Channel: m.Channel, Payload: m.Payload, After: int64(m.After)}, m.Shard)
}

// cmdPing answers PING of a client that may have subscriptions: in RESP2 replies have to look like messages then.
func (s *session) cmdPing(args [][]byte) {
	w := s.conn.Out()
	switch {
	case len(args) > 2:
		w.Error(fmt.Sprintf(reply.WrongArityF, "ping"))
	case s.pubsub && w.Proto() == 2:
		w.Array(2)
		w.BulkString("pong")
		if len(args) == 2 {
			w.Bulk(args[1])
		} else {
			w.BulkString("")
		}
	case len(args) == 2:
		w.Bulk(args[1])
	default:
		w.Simple("PONG")
	}
}

func (s *session) cmdPubsubNames(spec *command.Spec, args [][]byte) outcome {
	w := s.conn.Out()
	if len(args) > 3 {
		w.Error(fmt.Sprintf(reply.SubcommandSyntaxF, cString(args[1]), "PUBSUB"))
		return done
	}
	var pattern []byte
	if len(args) == 3 {
		pattern = args[2]
	}
	names := s.srv.hub.Names(subscriptionKind(spec), pattern)
	w.Array(len(names))
	for _, n := range names {
		w.BulkString(n)
	}
	return done
}

func (s *session) cmdPubsubNumSub(spec *command.Spec, args [][]byte) outcome {
	w := s.conn.Out()
	names := args[2:]
	w.Array(2 * len(names))
	for i, n := range s.srv.hub.Subscribers(subscriptionKind(spec), names) {
		w.Bulk(names[i])
		w.Int(int64(n))
	}
	return done
}

func (s *session) cmdPubsubNumPat(_ [][]byte) {
	s.conn.Out().Int(int64(s.srv.hub.Topics(pubsub.Pattern)))
}
