const fs = require('node:fs');
const http = require('node:http');
const path = require('node:path');

const shout = require('shout');
const book = require('./lib/book');
const { version } = require('./package.json');

const page = fs.readFileSync(path.join(__dirname, 'views', 'page.html'), 'utf8');

function render() {
  const { GREETING, AUTHOR } = process.env;
  return page
    .replace('{greeting}', shout(GREETING))
    .replace('{author}', AUTHOR)
    .replace('{version}', version);
}

const server = http.createServer((request, response) => {
  if (request.url.startsWith('/sign?')) {
    book.sign(decodeURIComponent(request.url.slice('/sign?'.length)));
  }
  if (request.url === '/') {
    response.setHeader('content-type', 'text/html');
    response.end(render());
  } else {
    response.setHeader('content-type', 'application/json');
    response.end(JSON.stringify(book.guests()));
  }
});

server.listen(process.env.PORT, process.env.HOST);
process.on('SIGTERM', () => server.close(() => process.exit(0)));
