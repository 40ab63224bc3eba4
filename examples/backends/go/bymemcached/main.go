// Is the user online? Looks into memcached, where presenced writes.
//
//	go run ./bymemcached 10.0.0.5:11211 USER…
//
// For one memcached without TLS and password. Needs only the standard library.
package main

import (
	"bufio"
	"crypto/md5"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"time"
	"unicode"
)

const (
	template = "user:{userId}:online" // --key-template
	// As many as presenced itself asks for in one command.
	usersPerGet = 100
	timeout     = 5 * time.Second
	// No entry and no marker is longer.
	valueBytesMax = 4096
)

// As long as this key says that memcached has been told of everyone, users who are not there are offline.
var marker = markerOf(template)

func markerOf(template string) string {
	digest := md5.Sum([]byte(template))
	return fmt.Sprintf("presenced:marker:%x", digest[:8])
}

// keyOf returns the key of a user's entry.
func keyOf(user string) (string, error) {
	key := strings.ReplaceAll(template, "{userId}", user)
	// An id with one of these would be another command, or another user's.
	notInID := func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) }
	if user == "" || len(key) > 250 || strings.IndexFunc(user, notInID) >= 0 {
		return "", fmt.Errorf("not the id of a user: %q", user)
	}
	return key, nil
}

// readValues reads the answer to one `get`: values by key.
func readValues(replies *bufio.Reader) (map[string]string, error) {
	values := map[string]string{}
	for {
		line, err := replies.ReadString('\n')
		if err != nil {
			return nil, fmt.Errorf("memcached's answer: %w", err)
		}
		if line == "END\r\n" {
			return values, nil
		}
		// VALUE <key> <flags> <bytes>
		words := strings.Fields(line)
		if len(words) != 4 || words[0] != "VALUE" {
			return nil, fmt.Errorf("memcached answered %q", line)
		}
		length, err := strconv.Atoi(words[3])
		if err != nil || length < 0 || length > valueBytesMax {
			return nil, fmt.Errorf("memcached answered %q", line)
		}
		value := make([]byte, length+2)
		if _, err := io.ReadFull(replies, value); err != nil {
			return nil, fmt.Errorf("memcached's answer: %w", err)
		}
		values[words[1]] = string(value[:length])
	}
}

// isWhole says whether memcached has been told of everyone: "{ring} {nonce} … {nonce}".
func isWhole(marker string) bool {
	words := strings.Split(marker, " ")
	for i := 2; i < len(words); i++ {
		if words[i] == words[1] {
			return true
		}
	}
	return false
}

// presence returns since when users are online, and the users about whom nothing is known now. All others are
// offline.
func presence(address string, users []string) (map[string]time.Time, map[string]bool, error) {
	connection, err := net.DialTimeout("tcp", address, timeout)
	if err != nil {
		return nil, nil, err
	}
	defer connection.Close()
	replies := bufio.NewReader(connection)
	online, unknown := map[string]time.Time{}, map[string]bool{}
	for len(users) > 0 {
		portion := users
		if len(portion) > usersPerGet {
			portion = portion[:usersPerGet]
		}
		users = users[len(portion):]
		keys := make([]string, len(portion))
		for i, user := range portion {
			if keys[i], err = keyOf(user); err != nil {
				return nil, nil, err
			}
		}
		if err := connection.SetDeadline(time.Now().Add(timeout)); err != nil {
			return nil, nil, err
		}
		// The marker comes last: what was lost before was lost with it.
		if _, err := fmt.Fprintf(connection, "get %s %s\r\n", strings.Join(keys, " "), marker); err != nil {
			return nil, nil, err
		}
		values, err := readValues(replies)
		if err != nil {
			return nil, nil, err
		}
		knowsAll := isWhole(values[marker])
		for i, user := range portion {
			value, found := values[keys[i]]
			var entry struct {
				ConnectedAt *int64 `json:"connectedAt"`
			}
			switch {
			case !found && knowsAll: // offline
			case !found, json.Unmarshal([]byte(value), &entry) != nil, entry.ConnectedAt == nil:
				// Memcached may have lost the entry; or presenced has not written it.
				unknown[user] = true
			default:
				online[user] = time.UnixMilli(*entry.ConnectedAt)
			}
		}
	}
	return online, unknown, nil
}

func run(args []string) error {
	if len(args) < 2 {
		return errors.New("usage: bymemcached HOST:PORT USER…")
	}
	users := args[1:]
	online, unknown, err := presence(args[0], users)
	if err != nil {
		return fmt.Errorf("%s: %w", args[0], err)
	}
	for _, user := range users {
		if since, ok := online[user]; ok {
			fmt.Printf("%s: online since %s\n", user, since.UTC().Format(time.RFC3339))
		} else if unknown[user] {
			// They may be online or offline: send the push notification.
			fmt.Printf("%s: unknown\n", user)
		} else {
			fmt.Printf("%s: offline\n", user)
		}
	}
	return nil
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "bymemcached:", err)
		os.Exit(1)
	}
}
