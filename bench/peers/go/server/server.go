// server PORT echo|bcast HEAD: the echo and broadcast server in Go, a goroutine for each connection.
package main

import (
	"bufio"
	"encoding/binary"
	"io"
	"log"
	"net"
	"os"
	"strconv"
	"sync"
)

type room struct {
	mu      sync.RWMutex
	members map[net.Conn]struct{}
}

func (r *room) join(c net.Conn) {
	r.mu.Lock()
	r.members[c] = struct{}{}
	r.mu.Unlock()
}

func (r *room) leave(c net.Conn) {
	r.mu.Lock()
	delete(r.members, c)
	r.mu.Unlock()
}

func (r *room) send(frame []byte) {
	r.mu.RLock()
	for c := range r.members {
		c.Write(frame)
	}
	r.mu.RUnlock()
}

// stream sends back what comes, as it comes.
func stream(c net.Conn) error {
	b := make([]byte, 64<<10)
	for {
		n, err := c.Read(b)
		if err != nil {
			return err
		}
		if _, err := c.Write(b[:n]); err != nil {
			return err
		}
	}
}

// frames hands each message with its head to deliver, and calls idle when no whole one is left in memory.
func frames(c net.Conn, head int, deliver func(frame []byte) error, idle func() error) error {
	r := bufio.NewReaderSize(c, 32<<10)
	var frame []byte
	for {
		h, err := r.Peek(head)
		if err != nil {
			return err
		}
		n := head
		switch head {
		case 1:
			n += int(h[0])
		case 2:
			n += int(binary.BigEndian.Uint16(h))
		default:
			n += int(binary.BigEndian.Uint32(h))
		}
		if cap(frame) < n {
			frame = make([]byte, n)
		}
		frame = frame[:n]
		if _, err := io.ReadFull(r, frame); err != nil {
			return err
		}
		if err := deliver(frame); err != nil {
			return err
		}
		if r.Buffered() == 0 {
			if err := idle(); err != nil {
				return err
			}
		}
	}
}

func main() {
	mode := os.Args[2]
	head, _ := strconv.Atoi(os.Args[3])
	l, err := net.Listen("tcp", "127.0.0.1:"+os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	everyone := &room{members: map[net.Conn]struct{}{}}
	for {
		c, err := l.Accept()
		if err != nil {
			log.Fatal(err)
		}
		go func() {
			defer c.Close()
			switch {
			case mode == "bcast":
				everyone.join(c)
				defer everyone.leave(c)
				frames(c, head, func(f []byte) error { everyone.send(f); return nil }, func() error { return nil })
			case head == 0:
				stream(c)
			default:
				w := bufio.NewWriterSize(c, 32<<10)
				frames(c, head, func(f []byte) error { _, err := w.Write(f); return err }, w.Flush)
			}
		}()
	}
}
