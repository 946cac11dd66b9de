"The site: what happens to notebooks before they are rendered, and to the pages after"
