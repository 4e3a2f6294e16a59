-- Load on a server, by wrk (https://github.com/wg/wrk):
--   kdm serve --model fashion-mnist &
--   wrk -t1 -c64 -d60s --latency -s benches/serve.lua http://127.0.0.1:8000
-- Prints images a second beside wrk's own numbers. serve.py runs it, beside `kdm bench sample` and more.
-- COUNT: images a request.

local count = tonumber(os.getenv("COUNT") or "16")
local seed = 0

request = function()
  seed = seed + count
  local body = string.format('{"first_seed": %d, "count": %d, "format": "npy"}', seed, count)
  return wrk.format("POST", "/v1/samples", { ["Content-Type"] = "application/json" }, body)
end

done = function(summary, latency)
  local refused = summary.errors.status
  local images = (summary.requests - refused) * count / (summary.duration / 1e6)
  io.write(string.format("%.0f images/s; p50 %.0f ms, p99 %.0f ms; answered otherwise %d, broken off %d\n",
    images, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3, refused,
    summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.timeout))
end
