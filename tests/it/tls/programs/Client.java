// Sessions and pulls with Java's own HttpClient.
//
//     java Client.java PORT AUTHORITY TOKEN USER

import java.io.FileInputStream;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse.BodyHandlers;
import java.net.http.WebSocket;
import java.nio.ByteBuffer;
import java.security.KeyStore;
import java.security.cert.CertificateFactory;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionStage;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import javax.net.ssl.SSLContext;
import javax.net.ssl.SSLParameters;
import javax.net.ssl.TrustManagerFactory;

class Client implements WebSocket.Listener {
    static final int PATIENCE_S = 20;

    final CountDownLatch pings = new CountDownLatch(3);
    final CompletableFuture<String> answer = new CompletableFuture<>();
    final CompletableFuture<Integer> closed = new CompletableFuture<>();

    public static void main(String[] args) throws Exception {
        String port = args[0], token = args[2], user = args[3];
        KeyStore trusted = KeyStore.getInstance(KeyStore.getDefaultType());
        trusted.load(null);
        try (var file = new FileInputStream(args[1])) {
            trusted.setCertificateEntry("authority", CertificateFactory.getInstance("X.509").generateCertificate(file));
        }
        var managers = TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm());
        managers.init(trusted);
        for (String version : new String[] {"TLSv1.3", "TLSv1.2"}) {
            SSLContext context = SSLContext.getInstance("TLS");
            context.init(null, managers.getTrustManagers(), null);
            var parameters = new SSLParameters();
            parameters.setProtocols(new String[] {version});
            var http = HttpClient.newBuilder().sslContext(context).sslParameters(parameters).build();
            session(http, port, token, user);
            System.out.println(version);
        }
        System.exit(0);
    }

    static void session(HttpClient http, String port, String token, String user) throws Exception {
        var client = new Client();
        WebSocket socket = http.newWebSocketBuilder()
                .header("Authorization", "Bearer " + token)
                .buildAsync(URI.create("wss://127.0.0.1:" + port + "/ws"), client)
                .get(PATIENCE_S, TimeUnit.SECONDS);
        if (!client.pings.await(PATIENCE_S, TimeUnit.SECONDS)) throw new AssertionError("no pings");
        socket.sendText("{\"pull\":1,\"users\":[\"" + user + "\",\"nobody\"]}", true);
        isOnline(client.answer.get(PATIENCE_S, TimeUnit.SECONDS), user);
        // It offers HTTP/2, too. The second request comes on the same connection.
        for (int number = 0; number < 2; number++) {
            var request = HttpRequest.newBuilder(URI.create("https://127.0.0.1:" + port + "/v1/presence?user=" + user))
                    .header("Authorization", "Bearer " + token)
                    .build();
            var response = http.send(request, BodyHandlers.ofString());
            if (response.version() != HttpClient.Version.HTTP_1_1) throw new AssertionError(response.version());
            isOnline(response.body(), user);
        }
        socket.sendClose(WebSocket.NORMAL_CLOSURE, "");
        int code = client.closed.get(PATIENCE_S, TimeUnit.SECONDS);
        if (code != WebSocket.NORMAL_CLOSURE) throw new AssertionError(code);
    }

    static void isOnline(String answer, String user) {
        if (!answer.contains("\"online\":{\"" + user + "\":{")) throw new AssertionError(answer);
    }

    @Override
    public CompletionStage<?> onPing(WebSocket socket, ByteBuffer payload) {
        pings.countDown();
        socket.request(1);
        return null;
    }

    @Override
    public CompletionStage<?> onText(WebSocket socket, CharSequence text, boolean isLast) {
        if (!isLast) throw new AssertionError("in parts");
        answer.complete(text.toString());
        socket.request(1);
        return null;
    }

    @Override
    public CompletionStage<?> onClose(WebSocket socket, int code, String reason) {
        closed.complete(code);
        return null;
    }

    @Override
    public void onError(WebSocket socket, Throwable error) {
        answer.completeExceptionally(error);
        closed.completeExceptionally(error);
    }
}
