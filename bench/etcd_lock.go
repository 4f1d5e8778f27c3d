// etcd_lock: acquire+release pairs of distinct locks against etcd, by etcd's own client and recipe (clientv3
// concurrency.Mutex), as `synaxis bench lock` measures them. One session (lease) per worker, over as many client connections as asked
// for, made before the clock starts; each worker locks and unlocks a mutex of its own, in a closed loop. Prints one line of JSON.
//
// Build offline with Debian's golang-go and golang-etcd-server-dev:
//
//	GO111MODULE=off GOPATH=/usr/share/gocode go build -o etcd_lock bench/etcd_lock.go
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io/ioutil"
	"os"
	"sort"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"go.etcd.io/etcd/clientv3"
	"go.etcd.io/etcd/clientv3/concurrency"
)

type sample struct{ acquire, release []uint32 } // microseconds

type run struct {
	measuring, stop, failures int64
	gapUs, lastGrantUs        int64
	timeout                   time.Duration // of one Lock or Unlock
	killedUs, failoverUs      int64 // unix time of the kill; from it to the first grant asked for 1 ms or more after it
	mutex                     sync.Mutex
	gaps                      [][2]int64
}

func die(format string, args ...interface{}) {
	fmt.Fprintf(os.Stderr, "etcd_lock: "+format+"\n", args...)
	os.Exit(1)
}

// User and system time of a process in microseconds, from /proc/<pid>/stat.
func processCPU(pid string) int64 {
	text, err := ioutil.ReadFile("/proc/" + pid + "/stat")
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+2:]))
	user, _ := strconv.ParseInt(fields[11], 10, 64)
	system, _ := strconv.ParseInt(fields[12], 10, 64)
	return (user + system) * 10000
}

func ownCPU() int64 {
	var u syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return (u.Utime.Nano() + u.Stime.Nano()) / 1000
}

// A time without a grant longer than gapUs is kept, in unix microseconds.
func (r *run) noteGrant(now time.Time) {
	if r.gapUs == 0 || atomic.LoadInt64(&r.stop) == 1 {
		return
	}
	us := now.UnixNano() / 1000
	last := atomic.SwapInt64(&r.lastGrantUs, us)
	if last != 0 && us-last > r.gapUs {
		r.mutex.Lock()
		r.gaps = append(r.gaps, [2]int64{last, us})
		r.mutex.Unlock()
	}
}

func (r *run) work(mutex *concurrency.Mutex, out *sample) {
	for atomic.LoadInt64(&r.stop) == 0 {
		ctx, cancel := context.WithTimeout(context.Background(), r.timeout)
		begun := time.Now()
		err := mutex.Lock(ctx)
		granted := time.Now()
		if err == nil {
			r.noteGrant(granted)
			killed := atomic.LoadInt64(&r.killedUs)
			if killed > 0 && begun.UnixNano()/1000 > killed+1000 {
				atomic.CompareAndSwapInt64(&r.failoverUs, 0, granted.UnixNano()/1000-killed)
			}
			err = mutex.Unlock(ctx)
		}
		released := time.Now()
		cancel()
		if err != nil {
			atomic.AddInt64(&r.failures, 1)
			time.Sleep(2 * time.Millisecond)
		} else if atomic.LoadInt64(&r.measuring) == 1 {
			out.acquire = append(out.acquire, uint32(granted.Sub(begun).Microseconds()))
			out.release = append(out.release, uint32(released.Sub(granted).Microseconds()))
		}
	}
}

// A line with a process id on stdin: kill -9 it and note when.
func (r *run) killFromStdin() {
	var pid int
	if n, _ := fmt.Scan(&pid); n == 1 && syscall.Kill(pid, syscall.SIGKILL) == nil {
		atomic.StoreInt64(&r.killedUs, time.Now().UnixNano()/1000)
	}
}

func percentiles(v []uint32) map[string]interface{} {
	sort.Slice(v, func(i, j int) bool { return v[i] < v[j] })
	at := func(p float64) uint32 {
		if len(v) == 0 {
			return 0
		}
		i := int(p / 100 * float64(len(v)))
		if i >= len(v) {
			i = len(v) - 1
		}
		return v[i]
	}
	return map[string]interface{}{"count": len(v), "p50": at(50), "p90": at(90), "p99": at(99), "p999": at(99.9), "max": at(100)}
}

func main() {
	endpoints := flag.String("endpoints", "127.0.0.1:2379", "client addresses, comma separated")
	connections := flag.Int("connections", 64, "workers, each with a connection and a session")
	seconds := flag.Int("seconds", 10, "measured time")
	warmup := flag.Int("warmup", 2, "seconds before measuring")
	pids := flag.String("server-pids", "", "report these processes' CPU time per operation")
	gaps := flag.Int64("gaps", 0, "list every time without any grant longer than this many ms")
	kill := flag.Bool("kill-from-stdin", false, "kill -9 the process id read from stdin; report the time to the next grant")
	timeout := flag.Duration("timeout", 10*time.Second, "of one pair")
	shared := flag.Int("clients", 0, "client connections, shared by the workers (0: one each)")
	flag.Parse()
	list := strings.Split(*endpoints, ",")
	r := &run{gapUs: *gaps * 1000, timeout: *timeout}
	samples := make([]sample, *connections)
	mutexes := make([]*concurrency.Mutex, *connections)
	if *shared == 0 || *shared > *connections {
		*shared = *connections
	}
	clients := make([]*clientv3.Client, *shared)
	for i := range clients {
		// Rotated, so that first choices spread over the members; all are there for failover.
		own := append(append([]string{}, list[i%len(list):]...), list[:i%len(list)]...)
		client, err := clientv3.New(clientv3.Config{Endpoints: own, DialTimeout: 5 * time.Second})
		if err != nil {
			die("%v", err)
		}
		clients[i] = client
	}
	for i := range mutexes {
		session, err := concurrency.NewSession(clients[i%len(clients)], concurrency.WithTTL(60))
		if err != nil {
			die("session: %v", err)
		}
		mutexes[i] = concurrency.NewMutex(session, fmt.Sprintf("/bench/%d/%07d", os.Getpid(), i))
	}
	var group sync.WaitGroup
	for i := range mutexes {
		group.Add(1)
		go func(i int) { r.work(mutexes[i], &samples[i]); group.Done() }(i)
	}
	if *kill {
		go r.killFromStdin()
	}
	time.Sleep(time.Duration(*warmup) * time.Second)
	meters := func() (int64, []int64) {
		var servers []int64
		for _, pid := range strings.FieldsFunc(*pids, func(c rune) bool { return c == ',' }) {
			servers = append(servers, processCPU(pid))
		}
		return ownCPU(), servers
	}
	client0, servers0 := meters()
	started := time.Now()
	atomic.StoreInt64(&r.measuring, 1)
	time.Sleep(time.Duration(*seconds) * time.Second)
	atomic.StoreInt64(&r.measuring, 0)
	elapsed := time.Since(started).Seconds()
	client1, servers1 := meters()
	r.noteGrant(time.Now()) // a gap that never closed is seen too
	atomic.StoreInt64(&r.stop, 1)
	group.Wait()
	var acquire, release []uint32
	for i := range samples {
		acquire = append(acquire, samples[i].acquire...)
		release = append(release, samples[i].release...)
	}
	ops := float64(len(acquire) + len(release))
	if ops == 0 {
		die("not one pair was done")
	}
	var server int64
	each := []int64{}
	for i := range servers1 {
		each = append(each, servers1[i]-servers0[i])
		server += servers1[i] - servers0[i]
	}
	if r.gaps == nil {
		r.gaps = [][2]int64{}
	}
	pairs := len(acquire)
	text, _ := json.Marshal(map[string]interface{}{
		"target": "etcd", "mode": "closed", "connections": *connections, "seconds": elapsed, "pairs": pairs,
		"pairs_per_s": float64(pairs) / elapsed, "acquire_us": percentiles(acquire), "release_us": percentiles(release),
		"errors": map[string]int64{"failed": r.failures}, "client_cpu_us_per_op": float64(client1-client0) / ops,
		"server_cpu_us_per_op": float64(server) / ops, "server_cpu_us": each, "gaps_unix_us": r.gaps,
		"killed": r.killedUs > 0, "failover_us": r.failoverUs,
	})
	fmt.Println(string(text))
}
