//! Requests to `kdm serve` that are made up: none of them is the server's fault, and none ends it.

use serde_json::{Value, json};

use crate::common::{Folder, distill, done, store};
use crate::serve::Server;

/// Numbers below a bound, by a linear congruential generator (Knuth's MMIX).
struct Random(u64);

impl Random {
    fn below(&mut self, most: usize) -> usize {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) as usize % most
    }

    /// A text with a digit or two replaced, or with up to three parts in the place of others.
    fn mixed(&mut self, whole: &str) -> Vec<u8> {
        let mut body = whole.as_bytes().to_vec();
        if self.below(2) == 0 {
            let digits: Vec<usize> =
                (0..body.len()).filter(|at| body[*at].is_ascii_digit()).collect();
            for _ in 0..=self.below(2) {
                body[digits[self.below(digits.len())]] = b"0123456789.-e"[self.below(13)];
            }
            return body;
        }
        for _ in 0..=self.below(3) {
            let (at, length) = (self.below(body.len()), self.below(12));
            let from = self.below(body.len());
            let part = body[from..(from + length).min(body.len())].to_vec();
            let end = (at + self.below(12)).min(body.len());
            body.splice(at..end, part);
        }
        body
    }
}

/// Requests that are understood, and mixed up; gives how many were answered 2xx and 4xx.
fn mixed_up(server: &Server, requests: &[(&str, Value)], count: usize) -> [usize; 2] {
    let (mut random, mut counts) = (Random(7), [0; 6]);
    let mut connection = server.connect();
    for (path, body) in requests {
        let answer = connection.post(path, body.to_string().as_bytes());
        assert_eq!(answer.status, 200, "{path} {body}: {answer:?}");
        let whole = body.to_string();
        for _ in 0..count {
            let body = random.mixed(&whole);
            let status = connection.post(path, &body).status;
            assert!(status < 500, "{status}: {path} {}", String::from_utf8_lossy(&body));
            counts[usize::from(status / 100)] += 1;
        }
    }
    assert_eq!(server.get("/healthz").status, 200);
    [counts[2], counts[4]]
}

/// 10 000 to a student of points, which computes fast, over all that is computed, and some to one
/// of images with classes.
#[test]
fn requests_that_are_mixed_up_are_never_the_servers_fault() {
    let folder = Folder::new();
    let pairs = store(&folder, "pairs", "300", &[]);
    done(&distill(&pairs, &folder.at("run"), &[]));
    let model = folder.at("run/student.safetensors");
    let server = Server::new(&["--model", &model]);
    let requests = [
        (
            "/v1/samples",
            json!({ "seeds": [3, 4], "way": { "seed": 5, "t": 0.5, "in": "noise" },
                "moves": [{ "mode": 2, "strength": 0.5 }], "columns": 2, "format": "json" }),
        ),
        ("/v1/interpolate", json!({ "seeds": [1, 2, 30], "steps": 4, "in": "latent" })),
        ("/v1/edit", json!({ "seeds": [1, 2], "mode": 1, "steps": 5, "reach": 1.5 })),
        ("/v1/invert", json!({ "images": [[0.5, -1.25], [0, 1]], "steps": 1, "format": "json" })),
    ];
    let [taken, refused] = mixed_up(&server, &requests, 2500);
    assert!(taken > 1000 && refused > 4000, "{taken} {refused}");

    let server = Server::new(&["--model fashion-mnist --max-samples 40"]);
    let requests = [(
        "/v1/samples",
        json!({ "seeds": [3, 4], "class": 1, "way": { "seed": 5, "t": 0.5, "in": "noise" },
            "moves": [{ "mode": 2, "strength": 0.5 }], "columns": 2, "format": "json" }),
    )];
    let [taken, refused] = mixed_up(&server, &requests, 300);
    assert!(taken > 20 && refused > 100, "{taken} {refused}");
}
