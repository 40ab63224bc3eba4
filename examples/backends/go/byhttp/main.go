// Is the user online? Asks presenced over HTTP.
//
//	PRESENCED_JWT_SECRET=… go run ./byhttp https://presence.example USER…
//
// Or with a service token in PRESENCE_TOKEN instead of the secret. Needs only the standard library.
package main

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"
)

const (
	usersPerPull  = 500
	timeout       = 5 * time.Second
	retryAfterMax = 10 * time.Second
)

var client = &http.Client{Timeout: timeout}

// serviceToken signs a token that may ask about anyone. A server with --jwt-audience or --jwt-issuer wants
// "aud" or "iss", too.
func serviceToken(secret []byte, lifetime time.Duration) (string, error) {
	claims, err := json.Marshal(map[string]any{
		"sub":   "push-service",
		"scope": "presence:read-all",
		"exp":   time.Now().Add(lifetime).Unix(),
	})
	if err != nil {
		return "", err
	}
	encode := base64.RawURLEncoding.EncodeToString
	signed := encode([]byte(`{"alg":"HS256","typ":"JWT"}`)) + "." + encode(claims)
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte(signed))
	return signed + "." + encode(mac.Sum(nil)), nil
}

type answer struct {
	Online map[string]struct {
		ConnectedAt int64 `json:"connectedAt"`
	} `json:"online"`
	Unknown []string `json:"unknown"`
	Invalid []string `json:"invalid"`
}

func ask(ctx context.Context, url, token string, body []byte) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Authorization", "Bearer "+token)
	request.Header.Set("Content-Type", "application/json")
	return client.Do(request)
}

// pull asks once, or twice if the server is busy.
func pull(ctx context.Context, url, token string, users []string) (*answer, error) {
	body, err := json.Marshal(map[string][]string{"users": users})
	if err != nil {
		return nil, err
	}
	url = strings.TrimSuffix(url, "/") + "/v1/presence"
	response, err := ask(ctx, url, token, body)
	if err != nil {
		return nil, err
	}
	if response.StatusCode == http.StatusTooManyRequests || response.StatusCode == http.StatusServiceUnavailable {
		response.Body.Close()
		select {
		case <-time.After(retryAfter(response)):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		if response, err = ask(ctx, url, token, body); err != nil {
			return nil, err
		}
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(response.Body, 1000))
		return nil, fmt.Errorf("presenced answered %s: %s", response.Status, text)
	}
	var told answer
	if err := json.NewDecoder(response.Body).Decode(&told); err != nil {
		return nil, fmt.Errorf("presenced's answer: %w", err)
	}
	return &told, nil
}

func retryAfter(response *http.Response) time.Duration {
	seconds, err := strconv.ParseUint(response.Header.Get("Retry-After"), 10, 16)
	if err != nil {
		return time.Second
	}
	if pause := time.Duration(seconds) * time.Second; pause < retryAfterMax {
		return pause
	}
	return retryAfterMax
}

// presence returns since when users are online, and the users about whom nothing is known now. All others are
// offline.
func presence(ctx context.Context, url, token string, users []string) (map[string]time.Time, map[string]bool, error) {
	online, unknown := map[string]time.Time{}, map[string]bool{}
	for len(users) > 0 {
		portion := users
		if len(portion) > usersPerPull {
			portion = portion[:usersPerPull]
		}
		users = users[len(portion):]
		told, err := pull(ctx, url, token, portion)
		if err != nil {
			return nil, nil, err
		}
		if len(told.Invalid) > 0 {
			return nil, nil, fmt.Errorf("not the ids of users: %q", told.Invalid)
		}
		for user, entry := range told.Online {
			online[user] = time.UnixMilli(entry.ConnectedAt)
		}
		for _, user := range told.Unknown {
			unknown[user] = true
		}
	}
	return online, unknown, nil
}

func run(args []string) error {
	if len(args) < 2 {
		return errors.New("usage: byhttp URL USER…")
	}
	token, secret := os.Getenv("PRESENCE_TOKEN"), os.Getenv("PRESENCED_JWT_SECRET")
	if token == "" {
		if secret == "" {
			return errors.New("set PRESENCE_TOKEN or PRESENCED_JWT_SECRET")
		}
		var err error
		if token, err = serviceToken([]byte(secret), 5*time.Minute); err != nil {
			return err
		}
	}
	users := args[1:]
	online, unknown, err := presence(context.Background(), args[0], token, users)
	if err != nil {
		return err
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
		fmt.Fprintln(os.Stderr, "byhttp:", err)
		os.Exit(1)
	}
}
