// actors BENCH AMOUNT [CONTEXTS]: goroutines and channels; unbuffered, but for the one that is flooded.
package main

import (
	"fmt"
	"log"
	"os"
	"sort"
	"strconv"
	"sync"
	"syscall"
	"time"
)

// Calls between two looks at the clock.
const (
	batch      = 200
	batchPairs = 20 // where many callers end at the same time
)

type value struct {
	id   int
	name string
	pos  []int
}

// copied: actors share nothing, so what one sends must not be what another changes.
func (v value) copied() value {
	v.pos = append([]int(nil), v.pos...)
	return v
}

type question struct {
	n     int
	reply chan int
}

func result(name string, x float64) { fmt.Printf("%s %.6f\n", name, x) }

func rates(count int, d time.Duration) {
	result("rate", float64(count)/d.Seconds())
	result("count", float64(count))
}

func residentKB() float64 {
	var size, resident float64
	b, _ := os.ReadFile("/proc/self/statm")
	fmt.Sscan(string(b), &size, &resident)
	return resident * float64(os.Getpagesize()) / 1024
}

func cpu() time.Duration {
	var u syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func echo(in chan question) {
	for q := range in {
		q.reply <- q.n
	}
}

func ask(to chan question, n int, back chan int) {
	to <- question{n, back}
	if <-back != n {
		log.Fatal("wrong answer")
	}
}

// calls makes calls until then, and returns how many.
func calls(stop time.Time, batch int) int {
	to, back := make(chan question), make(chan int)
	go echo(to)
	count := 0
	for ; time.Now().Before(stop); count += batch {
		for i := 0; i < batch; i++ {
			ask(to, i, back)
		}
	}
	return count
}

func pingpong(d time.Duration) {
	start := time.Now()
	count := calls(start.Add(d), batch)
	rates(count, time.Since(start))
}

func table(d time.Duration) {
	to, back := make(chan value), make(chan value)
	go func() {
		for v := range to {
			back <- v.copied()
		}
	}()
	v := value{1, "abc", []int{1, 2, 3}}
	count, start := 0, time.Now()
	for ; time.Since(start) < d; count += batch {
		for i := 0; i < batch; i++ {
			to <- v.copied()
			if got := <-back; got.id != v.id {
				log.Fatal("wrong answer")
			}
		}
	}
	rates(count, time.Since(start))
}

func pairs(d time.Duration, n int) {
	var wg sync.WaitGroup
	counts := make([]int, n)
	start := time.Now()
	for i := range counts {
		wg.Add(1)
		go func(i int) {
			defer wg.Done()
			counts[i] = calls(start.Add(d), batchPairs)
		}(i)
	}
	wg.Wait()
	total := 0
	for _, c := range counts {
		total += c
	}
	rates(total, time.Since(start))
}

func flood(d time.Duration) {
	const each, producers = 250000, 2
	mailbox, done := make(chan int, 1024), make(chan bool)
	go func() {
		for {
			for i := 0; i < producers*each; i++ {
				<-mailbox
			}
			done <- true
		}
	}()
	count, start := 0, time.Now()
	for ; time.Since(start) < d; count += producers * each {
		for p := 0; p < producers; p++ {
			go func() {
				for i := 0; i < each; i++ {
					mailbox <- i
				}
			}()
		}
		<-done
	}
	rates(count, time.Since(start))
}

func ring(d time.Duration, n int) {
	const hops = 200000
	done, links := make(chan bool), make([]chan int, n)
	for i := range links {
		links[i] = make(chan int)
	}
	for i := range links {
		go func(in, next chan int) {
			for v := range in {
				if v > 0 {
					next <- v - 1
				} else {
					done <- true
				}
			}
		}(links[i], links[(i+1)%n])
	}
	count, start := 0, time.Now()
	for ; time.Since(start) < d; count += hops {
		links[0] <- hops
		<-done
	}
	rates(count, time.Since(start))
}

func spawn(n int) {
	before, start := residentKB(), time.Now()
	all, back := make([]chan question, n), make(chan int)
	for i := range all {
		all[i] = make(chan question)
		go echo(all[i])
	}
	for i := range all {
		ask(all[i], i, back)
	}
	rates(n, time.Since(start))
	time.Sleep(500 * time.Millisecond)
	result("kb_each", (residentKB()-before)/float64(n))
}

func timers(n int) {
	late, fired := make([]float64, 0, n), make(chan time.Time, n)
	used, start := cpu(), time.Now()
	for i := 1; i <= n; i++ {
		d := time.Duration(1000+i*7919%1000+1) * time.Millisecond
		due := time.Now().Add(d)
		time.AfterFunc(d, func() { fired <- due })
	}
	rates(n, time.Since(start))
	for len(late) < n {
		late = append(late, time.Since(<-fired).Seconds()*1e3)
	}
	result("cpu_us", float64((cpu()-used).Microseconds())/float64(n))
	sort.Float64s(late)
	result("late_p50_ms", late[(n-1)/2])
	result("late_p99_ms", late[(n*99-1)/100])
	result("late_max_ms", late[n-1])
}

func main() {
	amount, err := strconv.ParseFloat(os.Args[2], 64)
	if err != nil {
		log.Fatal(err)
	}
	contexts := func(usual int) int {
		if len(os.Args) > 3 {
			usual, _ = strconv.Atoi(os.Args[3])
		}
		return usual
	}
	d := time.Duration(amount * float64(time.Second))
	switch os.Args[1] {
	case "pingpong":
		pingpong(d)
	case "table":
		table(d)
	case "pairs":
		pairs(d, contexts(100))
	case "flood":
		flood(d)
	case "ring":
		ring(d, contexts(1000))
	case "spawn":
		spawn(int(amount))
	case "timers":
		timers(int(amount))
	default:
		log.Fatal("no such benchmark: ", os.Args[1])
	}
}
