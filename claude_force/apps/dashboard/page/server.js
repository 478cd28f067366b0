/* The server, as the page sees it: questions that are asked once, and a line that stays open and mends itself. */

const FIRST_PAUSE_MS = 500;
const LONGEST_PAUSE_MS = 8_000;
// It says something every 15 seconds at least: who is silent for so long is gone, though the line may not know it.
const SILENCE_MS = 40_000;

/** The answer, from JSON. Throws an Error that says what is wrong, for a person. */
export async function ask(path, parameters = {}) {
  const given = Object.entries(parameters).filter(([, value]) => value != null && value !== '' && value !== false);
  const query = new URLSearchParams(given).toString();
  let response;
  try {
    response = await fetch(query ? `${path}?${query}` : path);
  } catch (error) {
    throw new Error('the server does not answer', { cause: error });
  }
  if (response.status === 401) throw new Error('this page is locked; open the link that `claude-force serve` printed');
  const answer = await response.json().catch(() => ({}));
  if (!response.ok) throw new Error(answer.detail ?? `the server answered ${response.status}`);
  return answer;
}

/** Listen to what happens, for ever. `onLine` is told if the line stands and, where not, if we are refused. */
export function listen(handlers, onLine) {
  let source;
  let pause = FIRST_PAUSE_MS;
  let silence;
  let retry;

  const lost = () => {
    clearTimeout(silence);
    clearTimeout(retry);
    // The browser tries again by itself, and tells the server where it was; where it gave up, we do.
    const isRefused = source.readyState === EventSource.CLOSED;
    onLine(false, isRefused);
    if (isRefused) {
      retry = setTimeout(open, pause);
      pause = Math.min(2 * pause, LONGEST_PAUSE_MS);
    }
  };
  const alive = () => {
    clearTimeout(silence);
    silence = setTimeout(() => {
      source.close();
      lost();
    }, SILENCE_MS);
  };
  function open() {
    source = new EventSource('/api/events');
    source.addEventListener('open', () => {
      pause = FIRST_PAUSE_MS;
      alive();
      onLine(true);
    });
    source.addEventListener('error', lost);
    source.addEventListener('beat', alive);
    for (const [name, handler] of Object.entries(handlers)) {
      source.addEventListener(name, (event) => {
        alive();
        handler(JSON.parse(event.data));
      });
    }
  }
  open();
}
