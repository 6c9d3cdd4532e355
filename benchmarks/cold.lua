-- For wrk: every request carries the next token of a file, and so one not seen lately.
local requests, position = {}, 0

function init()
  for token in io.lines(os.getenv("BENCHMARK_TOKENS")) do
    requests[#requests + 1] = wrk.format("GET", nil, { ["Authorization"] = "Bearer " .. token })
  end
end

function request()
  position = position % #requests + 1
  return requests[position]
end
