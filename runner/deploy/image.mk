# Container images. They need no Docker; where it answers, it gets them as well.

BUILD_IMAGE = go run ./runner/deploy/image --load --version='$(VERSION)' --revision="$$(git rev-parse HEAD 2>/dev/null || echo unknown)"

# Programs as they are in images: without paths of this machine and symbols.
GO_SMALL = go build -trimpath -ldflags '-s -w $(LDFLAGS)'

.PHONY: image
image: tools ## Build the runner's image, bin/image.tar
	@mkdir -p bin/image
	@$(GO_SMALL) -o bin/image/runner ./runner
	@$(BUILD_IMAGE) --name='$(IMAGE)' --base='$(BASE)' --output=bin/image.tar --title='StudioML runner' \
	  --add=bin/image/runner=/usr/local/bin/runner --entrypoint=/usr/local/bin/runner
