module presence.example/backends

go 1.19
