// Calls Asset's API with the token in a mounted Secret: reads the file for each request, and once more after a 401.
import java.io.IOException;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse.BodyHandlers;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;

public class Call {
    // begin: read
    static final Path DIR = Path.of(System.getenv().getOrDefault("ASSET_TOKEN_DIR", "/var/run/secrets/asset"));
    static final HttpClient CLIENT = HttpClient.newHttpClient();

    static String call(String path) throws IOException, InterruptedException {
        URI uri = URI.create(Files.readString(DIR.resolve("base_url")) + path);
        for (int waits : new int[] {0, 5, 30, 60}) { // a renewed token may reach a mounted file over a minute late
            Thread.sleep(Duration.ofSeconds(waits).toMillis());
            String authorization = Files.readString(DIR.resolve("authorization"));
            var request = HttpRequest.newBuilder(uri).header("Authorization", authorization)
                .timeout(Duration.ofSeconds(30)).build();
            var response = CLIENT.send(request, BodyHandlers.ofString());
            if (response.statusCode() == 200) return response.body();
            if (response.statusCode() != 401) throw new IOException("Asset answered " + response.statusCode());
        }
        throw new IOException("Asset refuses the token: look at the AssetToken's conditions");
    }
    // end: read

    public static void main(String[] arguments) throws Exception {
        System.out.println(call("/v0/ping"));
    }
}
