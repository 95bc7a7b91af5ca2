const fs = require('node:fs');
const http = require('node:http');
const path = require('node:path');

const shout = require('shout');
const { version } = require('./package.json');

process.loadEnvFile();
const title = 'Pages';

function upload(request, response, name) {
  const file = fs.createWriteStream(path.join('uploads', name));
  request.pipe(file);
  file.on('close', () => response.end(name));
}

const server = http.createServer((request, response) => {
  const name = path.basename(request.url);
  if (request.method === 'PUT') {
    upload(request, response, name);
  } else if (request.url === '/uploads') {
    response.end(JSON.stringify(fs.readdirSync('uploads').filter((one) => !one.startsWith('.')).sort()));
  } else if (request.url === '/about') {
    response.end(`${shout(title)} ${version} by ${process.env.OWNER}`);
  } else {
    fs.createReadStream(path.join(__dirname, 'public', name || 'index.html'))
      .on('error', () => response.writeHead(404).end())
      .pipe(response);
  }
});

server.listen({ fd: 3 });
process.on('SIGTERM', () => server.close(() => process.exit(0)));
