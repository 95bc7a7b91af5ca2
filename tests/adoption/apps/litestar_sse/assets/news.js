new EventSource('/events').onmessage = (event) => console.log('news', event.data);
