// Sessions over Go's TLS, and a pull beside each: by hand and with net/http.
//
//	go run client.go PORT AUTHORITY TOKEN USER

package main

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"sync"
)

const pings = 3

var port, token, user string
var roots = x509.NewCertPool()

func main() {
	port, token, user = os.Args[1], os.Args[3], os.Args[4]
	pem, err := os.ReadFile(os.Args[2])
	check(err)
	roots.AppendCertsFromPEM(pem)
	var both sync.WaitGroup
	for _, version := range []uint16{tls.VersionTLS13, tls.VersionTLS12} {
		both.Add(1)
		go func(version uint16) {
			defer both.Done()
			session(version)
		}(version)
	}
	both.Wait()
}

func config(version uint16) *tls.Config {
	return &tls.Config{RootCAs: roots, ServerName: "same.example", MinVersion: version, MaxVersion: version,
		ClientSessionCache: tls.NewLRUClientSessionCache(4)}
}

func session(version uint16) {
	client, err := tls.Dial("tcp", "127.0.0.1:"+port, config(version))
	check(err)
	_, err = fmt.Fprintf(client, "GET /ws HTTP/1.1\r\nHost: same.example\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nAuthorization: Bearer %s\r\n\r\n", token)
	check(err)
	stream := bufio.NewReader(client)
	response, err := http.ReadResponse(stream, nil)
	check(err)
	if response.StatusCode != 101 {
		panic(response.Status)
	}
	for seen := 0; seen < pings; {
		first, payload := frame(stream)
		if first == 0x89 {
			say(client, 0x8a, payload)
			seen++
		}
	}
	question := fmt.Sprintf(`{"pull":1,"users":[%q,"nobody"]}`, user)
	say(client, 0x81, []byte(question))
	for {
		first, payload := frame(stream)
		if first == 0x81 {
			isOnline(payload)
			break
		}
	}
	pull(version)
	say(client, 0x88, []byte{0x03, 0xe8})
	for {
		first, payload := frame(stream)
		if first == 0x88 {
			if payload[0] != 0x03 || payload[1] != 0xe8 {
				panic(payload)
			}
			break
		}
	}
	// Without the server's close_notify it would be another error.
	if _, err = stream.ReadByte(); err != io.EOF {
		panic(err)
	}
	check(client.Close())
	fmt.Printf("%x\n", version)
}

// Asks over HTTP, offering HTTP/2, too; the second time with a ticket.
func pull(version uint16) {
	transport := &http.Transport{TLSClientConfig: config(version), ForceAttemptHTTP2: true}
	for _, resumes := range []bool{false, true} {
		request, err := http.NewRequest("GET", "https://127.0.0.1:"+port+"/v1/presence?user="+user, nil)
		check(err)
		request.Header.Set("Authorization", "Bearer "+token)
		response, err := transport.RoundTrip(request)
		check(err)
		if response.ProtoMajor != 1 || response.TLS.DidResume != resumes {
			panic(fmt.Sprint(response.Proto, response.TLS.DidResume))
		}
		answer, err := io.ReadAll(response.Body)
		check(err)
		isOnline(answer)
		transport.CloseIdleConnections()
	}
}

func isOnline(answer []byte) {
	var found struct{ Online map[string]any }
	check(json.Unmarshal(answer, &found))
	if found.Online[user] == nil || len(found.Online) != 1 {
		panic(string(answer))
	}
}

// A frame of the server's, of less than 64 KiB.
func frame(stream *bufio.Reader) (byte, []byte) {
	first, err := stream.ReadByte()
	check(err)
	short, err := stream.ReadByte()
	check(err)
	length := int(short)
	if length == 126 {
		var long [2]byte
		_, err = io.ReadFull(stream, long[:])
		check(err)
		length = int(long[0])<<8 | int(long[1])
	}
	payload := make([]byte, length)
	_, err = io.ReadFull(stream, payload)
	check(err)
	return first, payload
}

// A frame of less than 126 bytes, whose mask is of zeros.
func say(client io.Writer, first byte, payload []byte) {
	_, err := client.Write(append([]byte{first, 0x80 | byte(len(payload)), 0, 0, 0, 0}, payload...))
	check(err)
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}
